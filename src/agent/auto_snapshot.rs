//! Snapshots that this host takes by itself: taken when they are due, kept on disk, and offered to the Supervisor
//! until it takes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use warden_protocol::{FromNode, OfferRefusal, SnapshotOffered};

use super::snapshot_triggers::Trigger;
use super::snapshots::{For, Note, Refused, Snapshots};

/// An offer that is not answered was lost with a connection, or the Supervisor could not look at it.
const UNANSWERED: Duration = Duration::from_secs(300);
/// Between two offers.
const APART: Duration = Duration::from_secs(1);
/// After the first refusal; doubled with each further one, up to the longest. Most runs are over within a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Refusals after which a snapshot is given up: somebody had some three days to make room for it.
const REFUSALS: u32 = 72;
/// How often one is begun: once more after the agent was killed with it half done.
const BEGINNINGS: u32 = 2;

pub struct Automatic {
    pub triggers: mpsc::Receiver<Trigger>,
    pub refusals: mpsc::Receiver<Refused>,
    /// Something while there is a link.
    pub listening: watch::Receiver<Option<Duration>>,
    pub snapshots: Arc<Snapshots>,
    pub reports: mpsc::Sender<FromNode>,
    /// Whether there is a Supervisor to send them to.
    pub is_enrolled: Box<dyn Fn() -> bool + Send + Sync>,
    /// From 0 to 1, anew each time.
    pub random: fn() -> f64,
}

/// Takes what is due and offers what is there, until told to stop.
pub async fn run(mut automatic: Automatic, stop: CancellationToken) -> anyhow::Result<()> {
    let mut schedule = Schedule::default();
    loop {
        // First of all what an earlier process was about to take.
        if automatic.take(&stop).await.is_none() {
            return Ok(());
        }
        let offers = automatic.waiting();
        let linked = automatic.listening.borrow().is_some();
        let next = if linked { schedule.next(&offers, Instant::now()) } else { None };
        let wait = async {
            match next {
                Some((_, at)) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            trigger = automatic.triggers.recv() => match trigger {
                Some(trigger) => automatic.is_due(&trigger),
                None => return Ok(()),
            },
            Some(refused) = automatic.refusals.recv() => {
                if let Some(times) = automatic.refused(&refused) {
                    schedule.refused(refused.offer, times, Instant::now());
                }
            }
            changed = automatic.listening.changed() => match changed {
                Ok(()) => schedule.linked_anew(),
                Err(_) => return Ok(()),
            },
            () = wait => if let Some((offer, _)) = next {
                automatic.offer(offer).await;
                schedule.told(offer, Instant::now());
            },
        }
    }
}

impl Automatic {
    /// Writes down that a snapshot is to be taken.
    fn is_due(&self, trigger: &Trigger) {
        let Trigger { reason, at_ms } = trigger;
        if !(self.is_enrolled)() {
            tracing::warn!("no snapshot is taken although {reason}: this host is not enrolled");
            return;
        }
        let offer = number(*at_ms, (self.random)());
        let note = Note {
            trigger: reason.kind(),
            reason: reason.to_string(),
            taken_at_ms: *at_ms,
            begun: 0,
            refused: 0,
        };
        if let Err(error) = self.snapshots.outbox.note(offer, &note) {
            tracing::warn!("no snapshot is taken although {reason}: {error:#}");
        }
    }

    /// Takes what is written down and not there. None: told to stop.
    async fn take(&self, stop: &CancellationToken) -> Option<()> {
        let outbox = &self.snapshots.outbox;
        for (offer, note) in outbox.offers() {
            if outbox.taken(For::Offer(offer)).is_some() {
                continue;
            }
            let reason = &note.reason;
            let begun = Note { begun: note.begun + 1, ..note.clone() };
            if begun.begun > BEGINNINGS || outbox.note(offer, &begun).is_err() {
                tracing::warn!(
                    offer,
                    "no snapshot is taken although {reason}: it was begun {BEGINNINGS} times"
                );
                self.give_up(offer);
                continue;
            }
            tracing::info!(offer, "a snapshot of this host is taken by itself: {reason}");
            let taken = tokio::select! {
                () = stop.cancelled() => return None,
                taken = self.snapshots.take_offer(offer) => taken,
            };
            match taken {
                Ok(()) => tracing::info!(offer, "the snapshot that was taken by itself waits to be sent"),
                Err(error) => {
                    tracing::warn!(offer, "no snapshot is taken although {reason}: {error:#}");
                    self.give_up(offer);
                }
            }
        }
        Some(())
    }

    /// Offers whose snapshot is whole, the oldest first.
    fn waiting(&self) -> Vec<u64> {
        let outbox = &self.snapshots.outbox;
        let offers = outbox.offers().into_iter().map(|(offer, _)| offer);
        offers.filter(|offer| outbox.taken(For::Offer(*offer)).is_some()).collect()
    }

    async fn offer(&self, offer: u64) {
        let known = self.snapshots.outbox.offers().into_iter().find(|(known, _)| *known == offer);
        let Some((_, Note { trigger, reason, taken_at_ms, .. })) = known else { return };
        let offered = SnapshotOffered { offer, trigger, reason, taken_at_ms };
        let _ = self.reports.send(FromNode::SnapshotOffered(offered)).await;
    }

    /// How often by now; nothing when it is given up, or is none any more.
    fn refused(&self, Refused { offer, code, reason }: &Refused) -> Option<u32> {
        let outbox = &self.snapshots.outbox;
        let (_, note) = outbox.offers().into_iter().find(|(known, _)| known == offer)?;
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
        let note = Note { refused: note.refused + 1, ..note };
        if *code == OfferRefusal::NotWanted || note.refused >= REFUSALS {
            tracing::warn!(offer, "a snapshot that this host took by itself is given up: {reason}");
            self.give_up(*offer);
            return None;
        }
        tracing::info!(
            offer,
            "the Supervisor does not take a snapshot for now, it is offered again: {reason}"
        );
        if let Err(error) = outbox.note(*offer, &note) {
            tracing::warn!(offer, "that a snapshot was not wanted is not remembered: {error:#}");
        }
        Some(note.refused)
    }

    fn give_up(&self, offer: u64) {
        self.snapshots.outbox.remove(For::Offer(offer));
        self.snapshots.outbox.forget(offer);
    }
}

/// When each offer is told again.
#[derive(Debug, Default)]
struct Schedule {
    told: BTreeMap<u64, Told>,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Told {
    again: Instant,
    refused: bool,
}

impl Schedule {
    /// Which of `offers` is to be told next, and when.
    fn next(&mut self, offers: &[u64], now: Instant) -> Option<(u64, Instant)> {
        self.told.retain(|offer, _| offers.contains(offer));
        let at = |offer: &u64| self.told.get(offer).map_or(now, |told| told.again);
        let next = offers.iter().map(|offer| (*offer, at(offer))).min_by_key(|(_, at)| *at);
        let apart = self.last.map_or(now, |last| last + APART);
        next.map(|(offer, at)| (offer, at.max(apart)))
    }

    fn told(&mut self, offer: u64, now: Instant) {
        self.told.insert(offer, Told { again: now + UNANSWERED, refused: false });
        self.last = Some(now);
    }

    fn refused(&mut self, offer: u64, times: u32, now: Instant) {
        let pause =
            FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1))).min(LONGEST_PAUSE);
        self.told.insert(offer, Told { again: now + pause, refused: true });
    }

    /// What was told and not answered may not have come.
    fn linked_anew(&mut self) {
        self.told.retain(|_, told| told.refused);
    }
}

/// Grows with time and is another each time: 41 bits of milliseconds, 20 of chance, so that it fits a signed number.
fn number(at_ms: i64, random: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^20 - 1")]
    let chance = (random.clamp(0.0, 1.0) * f64::from((1 << 20) - 1)) as u64;
    (at_ms.max(0).cast_unsigned() & ((1 << 42) - 1)) << 20 | chance
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(schedule: &mut Schedule, offers: &[u64], now: Instant, start: Instant) -> Option<(u64, u64)> {
        schedule.next(offers, now).map(|(offer, at)| (offer, at.saturating_duration_since(start).as_secs()))
    }

    #[test]
    fn offers_are_told_one_after_the_other_and_again_when_nobody_answers() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        assert_eq!(seconds(&mut schedule, &[7, 8], start, start), Some((7, 0)));
        schedule.told(7, start);
        assert_eq!(seconds(&mut schedule, &[7, 8], start, start), Some((8, 1)));
        schedule.told(8, start + APART);
        assert_eq!(seconds(&mut schedule, &[7, 8], start, start), Some((7, 300)));
        schedule.linked_anew();
        assert_eq!(seconds(&mut schedule, &[7, 8], start + Duration::from_secs(9), start), Some((7, 9)));
        assert_eq!(schedule.next(&[], start), None);
    }

    #[test]
    fn what_is_refused_is_told_again_after_ever_longer_pauses_whatever_the_link_does() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let mut pause = |times| {
            schedule.refused(7, times, start);
            schedule.linked_anew();
            seconds(&mut schedule, &[7], start, start).unwrap().1
        };
        assert_eq!([1, 2, 3, 6, 7, 8, 4_000_000].map(&mut pause), [60, 120, 240, 1920, 3600, 3600, 3600]);
    }

    #[test]
    fn numbers_grow_with_time_differ_by_chance_and_fit_every_store() {
        assert!(number(1_795_262_400_000, 1.0) < number(1_795_262_400_001, 0.0));
        assert_ne!(number(5, 0.1), number(5, 0.2));
        for at in [i64::MIN, 0, i64::MAX] {
            assert!(i64::try_from(number(at, 1.0)).is_ok());
        }
    }
}
