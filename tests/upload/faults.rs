//! The network between a node and both kinds of object store breaks, at every stage and in every way: the archive
//! arrives once and whole.

use std::net::SocketAddr;
use std::time::Duration;

use super::{LARGE, Sending};
use crate::support::objects::{KEY, Place};
use crate::support::proxy::{Fate, Plan, Proxy};

const PART: u64 = 16 << 20;

/// An archive of five parts, a store of each kind, and a network before each.
async fn through_networks() -> Vec<(Sending, Proxy)> {
    let mut all = Vec::new();
    for in_s3 in [false, true] {
        all.push(through_network(in_s3).await);
    }
    all
}

async fn through_network(in_s3: bool) -> (Sending, Proxy) {
    if in_s3 {
        let (place, network) = Place::s3_through_network().await;
        return (Sending::of(LARGE, place).await, network);
    }
    let place = Place::folder().await;
    let address: SocketAddr = place.base.strip_prefix("http://").unwrap().parse().unwrap();
    let network = Proxy::before(address).await;
    let mut sending = Sending::of(LARGE, place).await;
    sending.uploader.supervisor = format!("http://{}", network.address).parse().unwrap();
    (sending, network)
}

/// What befalls the next connections, and then all is well: one archive lies there as it was, and nothing beside it.
async fn arrives_though(in_s3: bool, plans: &[Plan]) -> (Sending, Proxy) {
    let (mut sending, network) = through_network(in_s3).await;
    // Long enough for what moves, on a busy machine too, and short enough to see five stalls.
    sending.uploader.patience = Duration::from_secs(3);
    plans.iter().for_each(|plan| network.plan(*plan));
    sending.send(32).await.unwrap();
    assert!(sending.arrived().await, "{plans:?}");
    assert_eq!(sending.place.stored(), [KEY.path()], "{plans:?}");
    (sending, network)
}

fn up(fate: Fate) -> Plan {
    Plan { up: fate, down: Fate::Pass }
}

fn down(fate: Fate) -> Plan {
    Plan { up: Fate::Pass, down: fate }
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_any_part_costs_that_part() {
    for in_s3 in [false, true] {
        // In the head of a request, in each part, at the seam of two, and before the last bytes of all.
        let cuts = [60, PART / 2, PART + PART / 2, PART, 10, PART / 3, (1 << 20) + 3];
        let plans: Vec<Plan> = cuts.iter().map(|at| up(Fate::CutAfter(*at))).collect();
        let (sending, network) = arrives_though(in_s3, &plans).await;
        let (up, _) = network.passed();
        // What was lost with each cut, heads, and what the store's own side asks for.
        let most = LARGE as u64 + cuts.len() as u64 * PART + (1 << 20);
        assert!(up < most, "{up} bytes went up, {most} at most");
        let asked = sending.asked();
        assert!(asked.len() <= cuts.len() + 1, "{asked:?}");
        assert!(asked.is_sorted_by_key(|wanted| wanted.first().copied().unwrap_or(0)), "{asked:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_whole_body_costs_one_part_and_makes_no_second_archive() {
    for in_s3 in [false, true] {
        let plans = [Fate::CutAfter(0), Fate::ResetAfter(0), Fate::ResetAfter(20), Fate::CutAfter(15)];
        let (sending, _) = arrives_though(in_s3, &plans.map(down)).await;
        // Two parts may have lost their answers together.
        let grants = sending.asked().len();
        assert!((plans.len() / 2 + 1..=plans.len() + 1).contains(&grants), "{grants}");
    }
}

#[tokio::test]
async fn a_network_that_swallows_everything_for_ever_is_left_and_another_connection_made() {
    for in_s3 in [false, true] {
        let plans = [
            // Not even the head of a request gets through; then the middle of a part; then an answer.
            up(Fate::StallAfter(0)),
            up(Fate::StallAfter(PART + PART / 2)),
            down(Fate::StallAfter(0)),
            down(Fate::StallAfter(30)),
        ];
        arrives_though(in_s3, &plans).await;
    }
}

#[tokio::test]
async fn an_archive_that_goes_whole_survives_the_same() {
    for in_s3 in [false, true] {
        let (sending, network) = {
            let (mut sending, network) = through_network(in_s3).await;
            sending.shorten(300_000).await;
            sending.uploader.patience = Duration::from_secs(3);
            (sending, network)
        };
        for plan in [
            up(Fate::CutAfter(0)),
            up(Fate::CutAfter(150_000)),
            up(Fate::StallAfter(150_000)),
            down(Fate::CutAfter(0)),
            down(Fate::ResetAfter(0)),
        ] {
            network.plan(plan);
        }
        sending.send(1).await.unwrap();
        assert!(sending.arrived().await);
        assert_eq!(sending.place.stored(), [KEY.path()]);
    }
}

/// The agent is away while the store is: what it noted is enough for the one that comes after it.
#[tokio::test]
async fn a_store_that_is_gone_in_the_middle_is_found_again_by_the_next_agent() {
    for (sending, network) in through_networks().await {
        let sending = sending.one_by_one();
        network.plan(up(Fate::CutAfter(2 * PART + 1_000_000)));
        let stop = tokio_util::sync::CancellationToken::new();
        let grants = std::sync::atomic::AtomicU32::new(0);
        let ask = |wanted: Vec<u32>| {
            if grants.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1 {
                stop.cancel();
            }
            std::future::ready(Ok(sending.grant(&wanted, 32)))
        };
        let ended = sending.uploader.upload(&sending.archive(), ask, |_| (), &stop).await;
        assert!(ended.is_err(), "{ended:?}");
        sending.send(32).await.unwrap();
        assert_eq!(sending.asked(), [vec![], vec![3, 4, 5], vec![3, 4, 5]]);
        assert!(sending.arrived().await);
        assert_eq!(sending.place.stored(), [KEY.path()]);
    }
}
