/* Quotegate's sessions and leases (docs/protocol.md): which packet passes under whose permission.
 *
 * Two peers, A (0) and B (1), one flow A -> B; how long trust lasts is beacons.pml, here an element in `trusted` may vanish at
 * any moment. The intruder delivers any quote a TPM ever made. Connections outlive their session in conntrack, with its mark.
 * Each switch removes one rule. README.md says what is abstracted and why.
 */
#define NO_ID 0

/* the kernel */
bit trusted[2];
byte id = NO_ID;                          /* in `live`, for the session that is open */
byte mark = NO_ID;                        /* of A's connection in conntrack */
bit authority = true;                     /* the element of the administrator's grant */
/* the gateway */
mtype = { closed, asks_a, asks_b, open };
mtype session = closed;
byte given;                               /* ids given away so far */
/* quotes that exist over this request's nonce, and over an earlier one's */
bit nonce_good[2], older_good[2];
/* the truth */
bit bad[2], bad_since_request[2];
bit own_session;                          /* the session that opened A's connection is still open */
bit bad_grant, seen_packet, seen_second;

#ifdef ONLY_THE_SOURCE
#define BOTH_TRUSTED trusted[0]
#else
#define BOTH_TRUSTED (trusted[0] && trusted[1])
#endif
#ifdef AUTHORITY_ONLY_AT_GRANT
#define GATE true
#else
#define GATE authority
#endif
#ifdef MARK_IS_ENOUGH
#define LEASED (mark != NO_ID)
#else
#define LEASED (mark != NO_ID && mark == id)
#endif
#define PASSES (BOTH_TRUSTED && LEASED && GATE)

#ifdef ANY_NONCE
#define PROVED(n) (nonce_good[n] || older_good[n])
#else
#ifdef TRUSTED_IS_ENOUGH
#define PROVED(n) trusted[n]
#else
#define PROVED(n) nonce_good[n]
#endif
#endif

inline close_session() { session = closed; id = NO_ID; own_session = false }
inline ask(n) {
  older_good[n] = older_good[n] || nonce_good[n]; nonce_good[n] = false; bad_since_request[n] = bad[n]
}

active proctype Gateway() {
end: do
  :: atomic { session == closed && authority && trusted[0] && trusted[1] -> session = asks_a; ask(0); ask(1) }
  :: atomic { session == asks_a && PROVED(0) -> session = asks_b }
#ifdef ONLY_THE_SOURCE_PROVES
  :: atomic { session == asks_b ->
#else
  :: atomic { session == asks_b && PROVED(1) ->
#endif
       if :: bad_since_request[0] || bad_since_request[1] -> bad_grant = true :: else -> skip fi;
       session = open;
#ifdef REUSED_IDS
       id = 1
#else
       if
       :: given < 3 -> given++
       :: given == 3 && mark != 3 -> skip /* the last one stands for all that follow: no connection carries it */
       fi;
       id = given; if :: given > 1 -> seen_second = true :: else -> skip fi
#endif
     }
  :: atomic { session != closed -> close_session() }          /* its end, a cut, the lease's timeout, the gateway's death */
  :: atomic { authority -> authority = false }                /* revoked; the sessions are closed a moment later */
  :: atomic { !authority -> authority = true }
  od
}

active proctype World() {
  byte n;
end: do
  :: atomic { if :: n = 0 :: n = 1 fi;
       if :: !bad[n] -> trusted[n] = true :: trusted[n] = false fi; n = 0 }
  :: atomic { if :: n = 0 :: n = 1 fi; bad[n] = true; n = 0 }
  :: atomic { if :: n = 0 :: n = 1 fi; bad[n] = false; bad_since_request[n] = false; n = 0 }
  :: atomic { session == asks_a && !bad[0] -> nonce_good[0] = true }
  :: atomic { session == asks_b && !bad[1] -> nonce_good[1] = true }
  :: atomic { session == open && mark == NO_ID && BOTH_TRUSTED && GATE -> mark = id; own_session = true }
  :: atomic { mark != NO_ID -> mark = NO_ID; own_session = false }
  :: atomic { PASSES -> seen_packet = true }
  od
}

/* a packet has both ends trusted at this moment */
ltl both_trusted { [] !(PASSES && !(trusted[0] && trusted[1])) }
/* a connection passes under the session that opened it, and under no other */
ltl own_lease { [] !(PASSES && !own_session) }
/* who was bad from before the request on gets no session */
ltl fresh_grant { [] !bad_grant }
/* no packet without the administrator's authority */
ltl authorised { [] !(PASSES && !authority) }
/* these have to be violated: the model can do what it is for */
ltl never_passes { [] !seen_packet }
ltl never_twice { [] !(seen_packet && seen_second) }
