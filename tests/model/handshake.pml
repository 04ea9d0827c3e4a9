/* Quotegate's handshake (docs/protocol.md) against an intruder who owns the network.
 *
 * Honest peers P and Q run two sessions each, the gateway G runs two. The intruder I is the network, an
 * enrolled peer with a TPM of its own, and a second gateway D that P and Q were also provisioned for.
 * Values are named by who drew them: session 0..3 of the peers (nP, gP), 4..5 of the gateway (nG, gG), or ME.
 * A receive takes every message the intruder can build from what it knows; cryptography is perfect.
 * Each NO_... switch removes one protection. README.md says what is abstracted and why.
 */
#define PEER_SESSIONS 4
#define GATEWAY_SESSIONS 2
#define FIRST_G 4                         /* names of the gateway's values start here */
#define ME 6                              /* drawn by the intruder */
#define NONE 7
#define OWNER(p) ((p) / 2)                /* 0: P, 1: Q, 2: the intruder as an enrolled peer */
#define INTRUDER 2
#define G 0
#define D 1

/* a peer's session, as the peer sees it */
mtype:peer = { waits_m2, waits_m4, peer_done };
typedef PeerSession {
  mtype:peer state;
  bit gateway;                            /* whom it talks to: G or D */
  byte nG, gG;                            /* received in m2 */
  bit sent_data;
};
/* a gateway session, as the gateway sees it; all but `from` was received in m1 */
mtype:gateway = { waits_m1, waits_m3, trusts };
typedef GatewaySession {
  mtype:gateway state;
  byte id, ak, nP, gP, place;
  byte from;                              /* ghost: whose m3 it took; ME: one the intruder built */
  bit took_data;
};
PeerSession p[PEER_SESSIONS];
GatewaySession g[GATEWAY_SESSIONS];

/* what was violated; a property is that one of these stays false */
bool bad_agreement_g, bad_injective_g, bad_agreement_p, bad_injective_p, bad_secrecy, bad_reflected,
     bad_purpose, bad_exporter, bad_early, bad_place, bad_proof;
/* that the model can do what it is for */
bool seen_both, seen_all, seen_intruder;

/* ---- what covers what -------------------------------------------------------------------------- */
/* QG, G's quote over m1 and core: does the quote of session j fit what session i sent and was shown? */
#ifdef NO_SHARES
#define SHARES_EQ(i, j, shown) true                       /* gP, gG in no transcript and no quote */
#else
#define SHARES_EQ(i, j, shown) (g[j].gP == (i) && (shown) == FIRST_G + (j))
#endif
#ifdef NO_PEER_NONCE
#define NP_EQ(i, j) true
#else
#define NP_EQ(i, j) (g[j].nP == (i))
#endif
#ifdef NO_GATEWAY_NONCE
#define NG_EQ(j, shown) true
#else
#ifdef NO_FRESHNESS                                       /* G repeats its nonce and its share */
#define NG_EQ(j, shown) ((shown) >= FIRST_G && (shown) != ME)
#else
#define NG_EQ(j, shown) ((shown) == FIRST_G + (j))
#endif
#endif
#define ID_EQ(i, j) (g[j].id == OWNER(i) && g[j].ak == OWNER(i))
#ifdef NO_GATEWAY_QUOTE
#define QG_FITS(i, j, nonce, share) true                  /* P takes m2 without looking at the quote */
#else
#define QG_FITS(i, j, nonce, share) (ID_EQ(i, j) && NP_EQ(i, j) && NG_EQ(j, nonce) && SHARES_EQ(i, j, share))
#endif
/* th2 of peer session i and of gateway session j are the same */
#ifdef NO_GATEWAY_ID
#define GATEWAY_EQ(i) true                                /* neither G's name nor its quote is in th2 */
#else
#define GATEWAY_EQ(i) (p[i].gateway == G)
#endif
#ifdef NO_FRESHNESS
#undef SHARES_EQ
#define SHARES_EQ(i, j, shown) (g[j].gP == (i) && (shown) >= FIRST_G && (shown) != ME)
#define SECRET_EQ(i, j) (g[j].gP == (i) && p[i].gG >= FIRST_G && p[i].gG != ME)
#else
#define SECRET_EQ(i, j) (g[j].gP == (i) && p[i].gG == FIRST_G + (j))
#endif
#define TH2_EQ(i, j) (GATEWAY_EQ(i) && ID_EQ(i, j) && NP_EQ(i, j) && NG_EQ(j, p[i].nG) && SHARES_EQ(i, j, p[i].gG))
/* both derived the same handshake keys; the intruder has them where a share is its own */
#define KEYS_EQ(i, j) (SECRET_EQ(i, j) && TH2_EQ(i, j))
#define KNOWN_TO_ME_P(i) (p[i].gG == ME)
#define KNOWN_TO_ME_G(j) (g[j].gP == ME)
/* what labels and roles tell apart: the purpose of a quote, the sender of a sealed message */
mtype:purpose = { handshake_quote, beacon_quote, session_quote };
mtype:role = { peer_role, gateway_role };
#ifdef NO_LABELS
#define LABEL_FITS(made, asked) true
#else
#define LABEL_FITS(made, asked) (made == asked)
#endif
#ifdef NO_ROLES
#define ROLE_FITS(sender, expected) true                  /* one key for both ways, no role in the MAC */
#else
#define ROLE_FITS(sender, expected) (sender == expected)
#endif
#ifdef NO_PEER_QUOTE
#define QP_UNCHECKED true                                 /* the MAC alone is taken for proof */
#else
#define QP_UNCHECKED false
#endif
/* when application records are taken, and sent */
#ifdef EARLY_DATA_G
#define DATA_WELCOME(j) (g[j].state != waits_m1)
#else
#define DATA_WELCOME(j) (g[j].state == trusts)
#endif
#ifdef EARLY_DATA_P
#define MAY_SEND(i) (p[i].state != waits_m2 && p[i].gateway == G)
#else
#define MAY_SEND(i) (p[i].state == peer_done)
#endif
/* what MAC_G covers was said by i: m4 answers its m3 */
#ifdef NO_FRESHNESS
#define M4_FOR(i, j) (g[j].from != ME)
#else
#define M4_FOR(i, j) (g[j].from == (i))
#endif
/* QP of peer session i signs what gateway session j expects */
#ifdef QUOTE_OVER_NONCE_ONLY
#define QP_FITS(i, j) NG_EQ(j, p[i].nG)
#else
#define QP_FITS(i, j) TH2_EQ(i, j)
#endif
/* the truth, whatever the protocol covers: i and j hold the same session */
#define SAME_SESSION(i, j) (p[i].gateway == G && g[j].id == OWNER(i) && g[j].ak == OWNER(i) && g[j].nP == (i) \
  && g[j].gP == (i) && p[i].nG == FIRST_G + (j) && p[i].gG == FIRST_G + (j))

/* ---- the gateway -------------------------------------------------------------------------------- */
/* j now trusts, having taken the m3 of `who` (a peer session, or ME) */
inline trust(j, who) {
  g[j].state = trusts;
  g[j].from = who;
  if
  :: g[j].id == INTRUDER -> seen_intruder = true
  :: else ->
    if
    :: who == ME -> bad_agreement_g = true
    :: else -> if :: p[who].state != waits_m2 && SAME_SESSION(who, j) -> skip :: else -> bad_agreement_g = true fi
    fi;
    if :: who != ME && g[1 - j].state == trusts && g[1 - j].from == who -> bad_injective_g = true :: else -> skip fi;
    if :: KNOWN_TO_ME_G(j) -> bad_secrecy = true :: else -> skip fi
  fi;
  if :: g[j].place != g[j].id -> bad_place = true :: else -> skip fi
}

/* Let the intruder name one of the peers' sessions. */
#define ANY_SESSION(who) if :: who = 0 :: who = 1 :: who = 2 :: who = 3 fi

/* Where session i is still free, D may run with it now and show it values of its own or of gateway session j. What D gets
 * out of a peer matters only where somebody takes it, so this is part of the step that does, and undone where nobody does. */
inline lure(i, j) {
  lured = false;
  if
  :: p[i].state == waits_m2 ->
     lured = true;
     p[i].gateway = D; p[i].state = waits_m4;
     if :: p[i].nG = ME :: p[i].nG = FIRST_G + j fi;
     if :: p[i].gG = ME :: p[i].gG = FIRST_G + j fi
  :: else -> skip
  fi
}
inline undo(i) {
  if
  :: lured -> p[i].gateway = G; p[i].state = waits_m2; p[i].nG = NONE; p[i].gG = NONE
  :: else -> skip
  fi;
  lured = false
}

proctype Gateway(byte j) {
  byte who;
  bit lured, fits;
  atomic {                                /* m1, from any place, in any name, with any nonce and share the intruder has */
    (j == 0 || g[0].state != waits_m1);   /* the sessions are alike: the first one starts first */
    if :: g[j].id = 0 :: g[j].id = 1 :: g[j].id = INTRUDER fi;
    if :: g[j].nP = 0 :: g[j].nP = 1 :: g[j].nP = 2 :: g[j].nP = 3 :: g[j].nP = ME fi;
    if :: g[j].gP = 0 :: g[j].gP = 1 :: g[j].gP = 2 :: g[j].gP = 3 :: g[j].gP = ME
       :: j == 1 -> g[j].gP = FIRST_G     /* the gateway's own share, reflected */
    fi;
#ifdef NO_AK_PIN
    if :: g[j].ak = g[j].id :: g[j].ak = INTRUDER fi;
#else
    g[j].ak = g[j].id;                    /* another AK is refused: wrong-ak */
#endif
#ifdef NO_PLACE
    if :: g[j].place = g[j].id :: g[j].place = INTRUDER fi;
#else
    g[j].place = g[j].id;                 /* another place is refused: wrong-place */
#endif
    g[j].state = waits_m3                 /* m2 is out: core and QG are everybody's */
  }
end: do
  :: atomic { g[j].state == waits_m3 ->   /* m3 of an honest peer, as it is or re-routed */
       ANY_SESSION(who);
       lure(who, j);
       if
       :: p[who].state != waits_m2 && KEYS_EQ(who, j) && g[j].ak == OWNER(who) && QP_FITS(who, j) -> trust(j, who)
       :: else -> undo(who)
       fi;
       who = 0; lured = false }
  :: atomic { g[j].state == waits_m3 && KNOWN_TO_ME_G(j) && g[j].ak == INTRUDER ->
       trust(j, ME) }                     /* m3 of the intruder's making: its own TPM quotes for it */
  :: atomic { g[j].state == waits_m3 && KNOWN_TO_ME_G(j) && g[j].ak != INTRUDER ->
       ANY_SESSION(who);                  /* … or around the quote of an honest TPM, out of a message it can open */
       lure(who, j);
       fits = p[who].state != waits_m2 && KNOWN_TO_ME_P(who) && OWNER(who) == g[j].ak;
       if
       :: fits && QP_FITS(who, j) -> trust(j, ME)
       :: fits && p[who].gateway == D && LABEL_FITS(beacon_quote, handshake_quote) ->
          bad_purpose = true; trust(j, ME)   /* a quote that D asked for in a beacon, with th2 as its nonce */
       :: QP_UNCHECKED -> trust(j, ME)
       :: else -> undo(who)
       fi;
       who = 0; lured = false; fits = false }
  :: atomic { DATA_WELCOME(j) && !g[j].took_data ->         /* an application record of an honest peer */
       ANY_SESSION(who);
       if
       :: p[who].sent_data && KEYS_EQ(who, j) ->
          g[j].took_data = true;
          if :: SAME_SESSION(who, j) -> seen_both = true :: else -> bad_early = true fi
       :: else -> skip
       fi;
       who = 0 }
  :: atomic { DATA_WELCOME(j) && !g[j].took_data && KNOWN_TO_ME_G(j) && g[j].id != INTRUDER ->
       g[j].took_data = true; bad_early = true }            /* the intruder's, in an honest peer's name */
  od
}

/* ---- the peer ----------------------------------------------------------------------------------- */
/* m4 was taken; `who` made it: a gateway session, or ME */
inline finish(i, who) {
  p[i].state = peer_done;
  if
  :: who == ME -> bad_agreement_p = true
  :: else -> if :: g[who].state == trusts && g[who].from == i && SAME_SESSION(i, who) -> skip :: else -> bad_agreement_p = true fi
  fi;
  other = 0;
  do                                      /* nobody else stands in this session */
  :: other < PEER_SESSIONS ->
     if :: other != i && p[other].state == peer_done && p[other].nG == p[i].nG -> bad_injective_p = true
        :: else -> skip fi;
     other++
  :: else -> break
  od;
  other = 0;
  if :: KNOWN_TO_ME_P(i) -> bad_secrecy = true :: else -> skip fi;
  if :: g[0].state == trusts && g[1].state == trusts && g[0].from < ME && g[1].from < ME &&
        p[g[0].from].state == peer_done && p[g[1].from].state == peer_done -> seen_all = true
     :: else -> skip fi
}
#define G_TRUSTS(i) ((g[0].state == trusts && g[0].from == (i)) || (g[1].state == trusts && g[1].from == (i)))
/* the intruder has seen a value of the gateway once m2 is out */
#define OUT(value) ((value) < FIRST_G || (value) == ME || g[(value) - FIRST_G].state != waits_m1)

proctype Peer(byte i) {
  byte who, nonce, share, other;          /* m1 is out from the start: nP and gP are everybody's */
end: do
  :: atomic { p[i].state == waits_m2 ->   /* m2 with a quote of G, around whatever core the intruder writes */
       if :: who = 0 :: who = 1 fi;
       if :: nonce = FIRST_G :: nonce = FIRST_G + 1 :: nonce = ME fi;
       if :: share = FIRST_G :: share = FIRST_G + 1 :: share = ME :: share = i fi;
       if
       :: g[who].state != waits_m1 && OUT(nonce) && OUT(share) && QG_FITS(i, who, nonce, share) ->
          p[i].gateway = G; p[i].nG = nonce; p[i].gG = share; p[i].state = waits_m4
       :: g[who].state == trusts && g[who].id == INTRUDER && LABEL_FITS(beacon_quote, handshake_quote) ->
          bad_purpose = true;             /* G's proof in a beacon, over a challenge that I chose: the leaf of this m2 */
          p[i].gateway = G; p[i].nG = ME; p[i].gG = ME; p[i].state = waits_m4
       :: else -> skip
       fi;
       who = 0; nonce = 0; share = 0 }
  :: atomic { p[i].state == waits_m4 && p[i].gateway == G ->                 /* m4 of G */
       if :: who = 0 :: who = 1 fi;
       if :: g[who].state == trusts && KEYS_EQ(i, who) && M4_FOR(i, who) -> finish(i, who) :: else -> skip fi;
       who = 0 }
  :: atomic { p[i].state == waits_m4 && p[i].gateway == G && KNOWN_TO_ME_P(i) -> finish(i, ME) }
  :: atomic { p[i].state == waits_m4 && p[i].gateway == G ->                 /* an m3 comes where m4 is due */
       ANY_SESSION(who);
       if :: p[who].state != waits_m2 && who == i && ROLE_FITS(peer_role, gateway_role) -> bad_reflected = true; finish(i, ME)
          :: else -> skip fi;             /* no two peers' sessions share their keys: only its own could open */
       who = 0 }
  :: atomic { MAY_SEND(i) && !p[i].sent_data ->                              /* the first application record */
       p[i].sent_data = true; if :: G_TRUSTS(i) -> skip :: else -> bad_early = true fi }
  od
}

/* ---- in the session: quotes that keep proving ---------------------------------------------------- */
/* The worst case: the intruder has stolen the record keys of every session and speaks in it. G asks in session j, which it
 * holds with an honest peer; the intruder answers with any quote that peer's TPM makes in any session. */
#ifdef NO_NONCE
#define NONCE_FITS(fresh) true
#else
#define NONCE_FITS(fresh) fresh
#endif
#ifdef NO_EXPORTER
#define EXPORTER_FITS(i, j) true
#else
#define EXPORTER_FITS(i, j) SAME_SESSION(i, j)   /* the exporter is of the whole transcript */
#endif
/* before m4 is verified a peer makes its handshake quote only; D has m4 at hand where it knows the keys */
#define MAKES(i, made) (p[i].state == peer_done || (p[i].state == waits_m4 && (made == handshake_quote || (p[i].gateway == D && KNOWN_TO_ME_P(i)))))
proctype Answers() {
  byte i, j;
  bit lured, fresh;
  mtype:purpose asked, made;
end: do
  :: atomic { g[0].state == trusts || g[1].state == trusts ->
       if :: j = 0 :: j = 1 fi;
       ANY_SESSION(i);
       lure(i, j);
       if :: asked = beacon_quote :: asked = session_quote fi;
       if :: made = handshake_quote :: made = beacon_quote :: made = session_quote fi;
       if :: fresh = 1 :: fresh = 0 fi;   /* over the nonce asked for now, or over an older one */
       if
       :: g[j].state == trusts && g[j].id != INTRUDER && OWNER(i) == g[j].ak && MAKES(i, made) &&
          LABEL_FITS(made, asked) && NONCE_FITS(fresh) && EXPORTER_FITS(i, j) ->   /* accepted: was it meant so? */
          if :: made != asked -> bad_purpose = true :: else -> skip fi;
          if :: !fresh -> bad_proof = true :: else -> skip fi;
          if :: !SAME_SESSION(i, j) -> bad_exporter = true :: else -> skip fi
       :: else -> skip
       fi;
       undo(i);
       i = 0; j = 0; fresh = 0; asked = beacon_quote; made = beacon_quote }
  :: atomic { g[0].state == trusts || g[1].state == trusts ->   /* G proves itself to peer session i, in a beacon */
       if :: j = 0 :: j = 1 fi;           /* the proof is what G made in session j, over whatever challenge came there */
       ANY_SESSION(i);
       if :: fresh = 1 :: fresh = 0 fi;   /* over one of i's last challenges, or over an older one */
       if
       :: g[j].state == trusts && p[i].state == peer_done && NONCE_FITS(fresh) && EXPORTER_FITS(i, j) ->
          if :: !fresh -> bad_proof = true :: else -> skip fi;
          if :: !SAME_SESSION(i, j) -> bad_exporter = true :: else -> skip fi
       :: else -> skip
       fi;
       i = 0; j = 0; fresh = 0 }
  od
}

init {
  atomic {
    byte n = 0;
    do
    :: n < PEER_SESSIONS -> p[n].state = waits_m2; p[n].nG = NONE; p[n].gG = NONE; run Peer(n); n++
    :: else -> break
    od;
    n = 0;
    do
    :: n < GATEWAY_SESSIONS -> g[n].state = waits_m1; g[n].from = NONE; run Gateway(n); n++
    :: else -> break
    od;
    n = 0;
    run Answers()
  }
}

ltl agreement_gateway { [] !bad_agreement_g }
ltl injective_gateway { [] !bad_injective_g }
ltl agreement_peer { [] !bad_agreement_p }
ltl injective_peer { [] !bad_injective_p }
ltl secrecy { [] !bad_secrecy }
ltl no_reflection { [] !bad_reflected }
ltl one_purpose { [] !bad_purpose }
ltl bound_to_session { [] !bad_exporter }
ltl fresh_proof { [] !bad_proof }
ltl no_early_data { [] !bad_early }
ltl right_place { [] !bad_place }
/* these have to be violated: the model can do what it is for */
ltl never_both { [] !seen_both }
ltl never_intruder { [] !seen_intruder }
ltl never_twice { [] !seen_all }
