"""The checks of the verifier, each with the one test that fails when it is removed.

`before` stands exactly once in the file; `after` is the code without the check.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One check removed: where, how, and the only test of its mirror module that must notice."""

    file: str
    before: str
    after: str
    test: str

    @property
    def module(self) -> str:
        """Return the test module; `test` may name another one than the mirror as `module::test`."""
        own, _, _ = self.test.rpartition("::")
        return f"tests/authn/{own or 'test_' + self.file.removesuffix('.py')}".removesuffix(".py") + ".py"

    @property
    def function(self) -> str:
        """Return the test's name."""
        return self.test.rpartition("::")[2]


def _never(file: str, condition: str, test: str, then: str = ":") -> Mutant:
    """Remove `if condition:`."""
    return Mutant(file, f"if {condition}{then}", f"if False{then}", test)


QUOTE = "quote.py"
MUTANTS = (
    # quote.py, in the order of the checks
    _never(QUOTE, "len(signature) < 4", "test_rejects_malformed_signature"),
    _never(
        QUOTE,
        "(algorithm, hash_alg) != (TPM_ALG_ECDSA, TPM_ALG_SHA256)",
        "test_rejects_another_signature_algorithm",
    ),
    _never(
        QUOTE,
        "len(signature) < at + 2 or len(number) != length or not 0 < length <= _MAX_COORDINATE",
        "test_rejects_malformed_signature",
    ),
    _never(QUOTE, "at != len(signature)", "test_rejects_malformed_signature"),
    Mutant(
        QUOTE,
        "key.key.verify(encode_dss_signature(r, s), quote.attest, _ECDSA_SHA256)",
        "pass",
        "test_rejects_wrong_ak",
    ),
    _never("attest.py", "magic != TPM_GENERATED_VALUE", "test_quote::test_rejects_wrong_magic"),
    _never("attest.py", "kind != TPM_ST_ATTEST_QUOTE", "test_quote::test_rejects_wrong_type"),
    _never("attest.py", "cursor.at != len(attest)", "test_quote::test_rejects_trailing_bytes"),
    _never(QUOTE, "attest.selection != expected.selection.encode()", "test_rejects_relabelled_pcr"),
    _never(
        QUOTE,
        "not hmac.compare_digest(attest.extra_data, expected.qualifying_data)",
        "test_rejects_replayed_nonce",
    ),
    _never(
        QUOTE, "attest.qualified_signer != expected.key.qualified_name", "test_rejects_wrong_qualified_signer"
    ),
    _never(
        QUOTE,
        "len(attest.pcr_digest) != len(wanted) or not hmac.compare_digest(attest.pcr_digest, wanted)",
        "test_rejects_pcr_mismatch",
    ),
    _never(QUOTE, "same_boot and counts != before", "test_rejects_reset_during_session"),
    _never(QUOTE, "got.reset_count < previous.reset_count", "test_rejects_reset_count_regression"),
    _never(
        QUOTE,
        "got.reset_count == previous.reset_count and got.clock < previous.clock",
        "test_rejects_clock_regression",
    ),
    _never(QUOTE, "pinned is not None and got.firmware_version != pinned", "test_rejects_changed_firmware"),
    # the keys
    _never(
        "public_area.py",
        "parsed.attributes & (AK_REQUIRED | DECRYPT) != AK_REQUIRED",
        "test_rejects_an_ak_that_is_no_restricted_signing_key",
    ),
    _never(
        "public_area.py",
        "(parsed.scheme, parsed.scheme_hash) != (TPM_ALG_ECDSA, TPM_ALG_SHA256)",
        "test_rejects_another_signature_scheme",
    ),
    _never(
        "public_area.py",
        "parsed.attributes & (EK_REQUIRED | SIGN) != EK_REQUIRED",
        "test_rejects_an_ek_that_is_no_restricted_decryption_key",
    ),
    _never("public_area.py", "reader.at != len(public)", "test_rejects_a_truncated_or_longer_public_area"),
    # logs and references
    Mutant(
        "event_log.py",
        "if event.event_type == EV_NO_ACTION:",
        "if event.event_type == EV_NO_ACTION and event.pcr == 0:",
        "test_event_types_change_nothing_but_no_action_extends_nothing",
    ),
    _never("event_log.py", "pcr >= PCR_COUNT", "test_rejects_a_pcr_that_does_not_exist"),
    _never("event_log.py", "count != len(sizes)", "test_rejects_another_number_of_digests"),
    _never(
        "event_log.py",
        "algorithm not in sizes or algorithm in digests",
        "test_rejects_a_digest_twice",
    ),
    _never("event_log.py", "len(digests[bank]) != bank.size", "test_rejects_a_digest_of_another_width"),
    Mutant(
        "event_log.py",
        "if body.take(16) != SPEC_ID_SIGNATURE:",
        "if not body.take(16):",
        "test_rejects_a_log_without_its_header",
    ),
    Mutant(
        "reference.py",
        "[one for one in sets if now <= one.not_after]",
        "list(sets)",
        "test_rejects_expired_references",
    ),
    _never(
        "reference.py",
        "index in FIRMWARE_PCRS and not any(pcr_values[index])",
        "test_rejects_a_firmware_pcr_that_was_never_measured_into",
    ),
    Mutant(
        "reference.py",
        "    raise refusals[0]",
        "    return",
        "test_rejects_reference_mismatch",
    ),
    Mutant(
        "reference.py",
        "if any(_refusal(",
        "if False and any(_refusal(",
        "test_beacon_files::test_expiry_of_the_machines_own_set_is_not_held_against_it",
    ),
    _never("ima.py", "len(name) > MAX_NAME", "test_rejects_a_longer_name_than_the_kernel_writes"),
    _never("ima.py", "rest > MAX_AHEAD", "test_rejects_a_list_that_is_padded_behind_the_quote"),
    _never("reference.py", "entry.violation", "test_ima::test_rejects_ima_violation"),
    _never("reference.py", "entry.digest not in digests", "test_ima::test_rejects_unknown_file"),
    _never("profile.py", "resettable", "test_event_log::test_rejects_a_profile_with_a_resettable_pcr"),
    _never("profile.py", "misplaced", "test_ima::test_rejects_an_ima_reference_for_another_pcr"),
    _never(
        "appraisal.py",
        "name not in present or name not in KNOWN",
        "test_ima::test_rejects_unknown_layer_where_the_profile_demands_it",
    ),
    Mutant(
        "appraisal.py",
        "    check_signature(layer.quote, expected.key)\n",
        "",
        "test_a_log_is_not_read_before_the_signature_is_good",
    ),
    _never(
        "layers.py",
        "len({layer.name for layer in layers}) != count",
        "test_ima::test_rejects_two_layers_of_one_name",
    ),
    # the handshake, the gateway's end
    _never(
        "handshake_gateway.py",
        "m1.gateway_profile != self.config.gateway_profile",
        "test_handshake::test_rejects_unwanted_gateway_profile",
    ),
    _never(
        "handshake_gateway.py",
        'not hmac.compare_digest(m3.mac, finished_mac(self._keys.peer_finished, "peer", th3))',
        "test_handshake::test_rejects_wrong_mac_of_the_peer",
    ),
    Mutant(
        "handshake_gateway.py",
        "        facts.check(appraisal.measured)\n",
        "",
        "test_handshake::test_rejects_a_peer_whose_references_do_not_fit",
    ),
    Mutant(
        "handshake_gateway.py",
        "labels.peer_handshake(self._th2), {}, facts.previous",
        "labels.peer_handshake(self._th2), {}, None",
        "test_handshake::test_rejects_counters_gone_back",
    ),
    Mutant(
        "handshake_messages.py",
        "if (version, suite) != (VERSION, SUITE_X25519_CHACHA20_SHA256):",
        "if False:",
        "test_handshake::test_rejects_unsupported_version",
    ),
    # the handshake, the peer's end
    _never(
        "handshake_peer.py",
        "core.gateway_id != self.config.gateway_id or core.ak_name != self.config.gateway_key.name",
        "test_handshake::test_rejects_another_gateways_name",
    ),
    _never(
        "handshake_peer.py",
        "core.selection != self.config.selection.encode()",
        "test_handshake::test_rejects_a_downgraded_selection",
    ),
    Mutant(
        "handshake_peer.py",
        "        self.config.check_gateway(Measured(events, (), values))\n",
        "",
        "test_handshake::test_rejects_a_gateway_whose_references_do_not_fit",
    ),
    Mutant(
        "handshake_peer.py",
        "            self.config.gateway_previous,\n",
        "            None,\n",
        "test_handshake::test_rejects_a_gateway_whose_counters_went_back",
    ),
    _never(
        "handshake_peer.py",
        "not hmac.compare_digest(m4.mac, expected)",
        "test_handshake::test_rejects_wrong_mac_of_the_gateway",
    ),
    _never("merkle.py", "not 0 <= index < size <= MAX_LEAVES", "test_rejects_foreign_merkle_index_or_size"),
    Mutant(
        "merkle.py",
        "return current if last == 0 else None",
        "return current",
        "test_rejects_a_path_that_is_too_short",
    ),
    # beacons
    _never("beacon.py", "answer.number > self._number", "test_rejects_an_answer_from_the_future"),
    Mutant(
        "beacon.py",
        " or now > self._sent_at + self.interval / 2:",
        ":",
        "test_a_late_answer_counts_nothing",
    ),
    Mutant("beacon.py", "if answer.number < self._number or ", "if ", "test_only_the_latest_beacon_counts"),
    _never("beacon.py", "answer.number <= self._answered", "test_an_answer_counts_once"),
    Mutant(
        "beacon.py",
        "return Pass(self._sent_at",
        "return Pass(now",
        "test_a_pass_is_as_fresh_as_its_beacon",
    ),
    Mutant(
        "beacon.py",
        "        self.counters = verify_quote(quote, expected).counters\n        if proved",
        "        if proved",
        "test_a_beacon_is_verified_in_full",
    ),
    _never("beacon.py", "beacon.number != self._number + 1", "test_peer_rejects_a_skipped_beacon"),
    _never("beacon.py", "beacon.proof is None", "test_peer_rejects_a_missing_proof"),
    # enrollment
    _never("ek_certificate.py", "EK_USAGE not in usage", "test_enrollment::test_rejects_wrong_eku"),
    _never(
        "ek_certificate.py",
        "certificate.public_key() != ek",
        "test_enrollment::test_rejects_ek_of_another_machine",
    ),
    _never(
        "enrollment.py",
        "expected is None or self._identity is None or not hmac.compare_digest(proof, expected)",
        "test_rejects_a_wrong_credential_and_gives_no_second_try",
    ),
    # documents and records
    _never("signing.py", "name not in keys", "test_rejects_wrong_key"),
    Mutant(
        "signing.py",
        ".verify(signature, CONTEXT + canonical(document))",
        "",
        "test_rejects_bad_signature",
    ),
    _never("signing.py", 'document["kind"] != kind', "test_rejects_wrong_kind"),
    _never("signing.py", 'now > document["not_after"]', "test_rejects_expired"),
    _never("portmap.py", "twice", "test_rejects_an_ambiguous_port_map"),
    _never("channel.py", "self._dead", "test_a_channel_dies_with_its_first_bad_record"),
)
