/* Quotegate's beacons (docs/protocol.md): how long the kernel goes on trusting a peer.
 *
 * One peer; the other end of every packet is taken as trusted, which is the worst case. Time is discrete and what the kernel
 * forgets is a countdown, so there is no horizon. The intruder delivers any quote the TPM ever made, at any time, as often as it
 * likes, or none. The peer may turn bad at any moment: from then on its TPM quotes what it is, until it is rebooted. The gateway
 * may die and come back. Each switch removes one rule. README.md says what is abstracted and why.
 */
#define T 2                               /* a beacon's period */
#define HALF 1                            /* its answer is accepted for this long */
#define TWO_T 4
#define NEVER 7                           /* no beacon is out */

/* the kernel */
byte trusted_left;                        /* the timeout of the peer's element in `trusted` */
/* the gateway */
bit alive = true;
byte age = NEVER;                         /* of the latest beacon */
bit answered = true;
bit failed;
bit reset_count_grew;
/* quotes that exist, by what they are over */
bit good_now, bad_now, good_old;
/* the truth */
bit bad;
byte bad_for, dead_for;                   /* saturating at TWO_T */
bit proven;                               /* the gateway was shown that it is bad, and it was not rebooted since */
bit seen_trusted, seen_recovery;

#ifdef EXPIRY_FROM_RECEIPT
#define EXPIRY TWO_T
#else
#define EXPIRY (TWO_T - age)              /* beacon sent + 2T */
#endif
inline pass() { trusted_left = EXPIRY; answered = true; seen_trusted = true }
inline greet() { age = 0; trusted_left = TWO_T; answered = true }       /* a full handshake: a quote made just now */

#ifdef ANY_BEACON
#define OLD_FITS good_old
#else
#define OLD_FITS false
#endif
#define OPEN (!answered && age <= HALF)

active proctype Gateway() {
end: do
  :: atomic { alive && !failed && age == T ->                 /* the next beacon; the answers to the last one are old now */
       age = 0; answered = false;
       good_old = good_old || good_now; good_now = false; bad_now = false }
  :: atomic { alive && OPEN && !failed && (good_now || OLD_FITS) -> pass() }
  :: atomic { alive && OPEN && !failed && bad_now ->
       failed = true; proven = true; reset_count_grew = false;
#ifndef NO_EXPLICIT_CUT
       trusted_left = 0
#endif
     }
  :: atomic { alive && failed && reset_count_grew && !bad ->
       failed = false; proven = false; greet(); seen_recovery = true }
#ifdef NOT_STICKY
  :: atomic { alive && failed -> failed = false; greet() }    /* forgiven without a reboot and a handshake */
#endif
  :: atomic { alive && !failed && !bad && age == NEVER -> greet() }
  od
}

active proctype World() {
end: do
  :: atomic { age <= T -> if :: bad -> bad_now = true :: else -> good_now = true fi }
  :: atomic { !bad -> bad = true; bad_for = 0 }
  :: atomic { failed -> bad = false; bad_for = 0; reset_count_grew = true }   /* the monitor restarts it; its image is good */
  :: atomic { alive -> alive = false; dead_for = 0 }          /* kill -9: what the kernel holds stays */
  :: atomic { !alive ->                                       /* trust does not survive a restart; what failed is remembered */
       alive = true; dead_for = 0;
       age = NEVER; answered = true;
       good_old = good_old || good_now; good_now = false; bad_now = false }
  od
}

active proctype Time() {
end: do
  :: atomic { !(alive && !failed && age == T) ->              /* no time passes over a beacon that is due */
#ifndef NO_TIMEOUT
       if :: trusted_left > 0 -> trusted_left-- :: else -> skip fi;
#endif
       if :: age < T -> age++ :: else -> skip fi;
       if :: bad && bad_for < TWO_T -> bad_for++ :: else -> skip fi;
       if :: !alive && dead_for < TWO_T -> dead_for++ :: else -> skip fi }
  od
}

/* whoever turned bad reaches nobody after 2T, whatever the intruder keeps, replays or withholds */
ltl bounded { [] !(trusted_left > 0 && bad && bad_for >= TWO_T) }
/* … and at once when the gateway has the proof; it stays out until it was rebooted and proved itself */
ltl cut_at_once { [] !(trusted_left > 0 && proven) }
/* a dead gateway lets nobody through after 2T */
ltl dead_gateway { [] !(trusted_left > 0 && dead_for >= TWO_T) }
/* these have to be violated: the model can do what it is for */
ltl never_trusted { [] !seen_trusted }
ltl never_recovers { [] !seen_recovery }
