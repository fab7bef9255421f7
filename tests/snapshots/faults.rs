//! The way of a snapshot from an agent to its store breaks at every stage: one archive arrives, as it was taken.

use std::path::Path;

use futures_util::future::join_all;
use serde_json::Value;
use sha2::{Digest, Sha256};
use warden::supervisor::settings::{ObjectStore, Settings};

use super::{Fleet, Node, in_s3, is_empty};
use crate::archive::noise;
use crate::support::objects::stored_in;
use crate::support::proxy::{Fate, Plan, Proxy};
use crate::support::s3::S3Server;

/// One node whose whole way to the Supervisor leads through a network, and a store of either kind.
struct Way {
    fleet: Fleet,
    network: Proxy,
    node: Node,
    s3: Option<S3Server>,
}

impl Way {
    async fn new(with_s3: bool) -> Way {
        Way::on(with_s3, vec!["env".to_owned()]).await
    }

    /// `before` stands before the commands of the node.
    async fn on(with_s3: bool, before: Vec<String>) -> Way {
        let s3 = if with_s3 { Some(S3Server::start().await) } else { None };
        let fleet = Fleet::start(|settings| stored_by(s3.as_ref(), settings)).await;
        let network = Proxy::before(fleet.served.address).await;
        let address = format!("http://{}", network.address);
        let node = Node::enrol_on(before, &[&address], &fleet.token().await);
        Way { fleet, network, node, s3 }
    }

    /// So many KiB of an archive leave the node in a second.
    fn slowly(&self, rate: u32) {
        self.node.configure(&format!("upload_kib_per_second = {rate}"));
    }

    /// Waits until bytes are on their way.
    async fn sending(&self, run: u64, more_than: u64) -> u64 {
        let began = std::time::Instant::now();
        loop {
            let rows = self.fleet.rows(run).await;
            match rows[0]["progress"]["bytes_sent"].as_u64() {
                Some(sent) if sent > more_than => return sent,
                _ => {}
            }
            assert_eq!(rows[0]["status"], "processing", "{rows:#?}");
            assert!(began.elapsed() < super::PATIENCE, "{rows:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn restarted(self) -> Way {
        let Way { fleet, network, node, s3 } = self;
        let fleet = fleet.restarted(|settings| stored_by(s3.as_ref(), settings)).await;
        network.lead_to(fleet.served.address);
        network.cut();
        Way { fleet, network, node, s3 }
    }

    /// The snapshot is completed, and exactly its one archive lies in the store, as it was announced.
    async fn holds_one_archive(&self, run: u64) -> Value {
        let rows = self.fleet.ended(run, |_| ()).await;
        assert_eq!(rows[0]["status"], "completed", "{rows:#?}");
        let archive = self.fleet.downloaded(&rows[0]).await;
        let digest: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((&rows[0]["sha256"], &rows[0]["size"]), (&digest.into(), &archive.len().into()));
        let stored = match &self.s3 {
            Some(s3) => stored_in(s3.folder()),
            None => {
                let ObjectStore::Folder(folder) = self.fleet.backend.objects() else { panic!("no folder") };
                stored_in(&folder)
            }
        };
        assert_eq!(stored, [format!("{}/{}.zip", rows[0]["deployment_id"], rows[0]["id"])]);
        crate::support::until("the outbox is empty", || is_empty(&self.node.outbox()).then_some(()));
        rows[0].clone()
    }
}

fn stored_by(s3: Option<&S3Server>, settings: Settings) -> Settings {
    match s3 {
        Some(server) => in_s3(server, settings),
        None => settings,
    }
}

/// Cuts the first link of an agent after so many bytes: while it says what it is, is asked, tells how far it is, asks
/// for a place, or tells that all is there.
async fn cut_link(with_s3: bool, plan: Plan) {
    let mut way = Way::new(with_s3).await;
    let run = way.fleet.begin().await;
    way.network.plan(plan);
    way.node.start();
    way.holds_one_archive(run).await;
}

async fn cut_links(with_s3: bool) {
    let up = [700, 1_600, 2_500, 3_600].map(|at| Plan { up: Fate::CutAfter(at), down: Fate::Pass });
    let down = [350, 800, 1_200].map(|at| Plan { up: Fate::Pass, down: Fate::CutAfter(at) });
    join_all(up.into_iter().chain(down).map(|plan| cut_link(with_s3, plan))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_at_any_stage_leaves_one_archive_in_a_folder() {
    cut_links(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_at_any_stage_leaves_one_archive_in_an_s3_store() {
    cut_links(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_while_bytes_go_to_the_store_does_not_disturb_them() {
    let data = data_directory();
    let mut way = Way::on(true, with_data(data.path())).await;
    way.slowly(8 << 10);
    let run = way.fleet.begin_with(true).await;
    way.node.start();
    let mut sent = way.sending(run, 0).await;
    for _ in 0..2 {
        way.network.cut();
        sent = way.sending(run, sent).await;
    }
    way.holds_one_archive(run).await;
    assert!(!way.node.told().contains("an upload broke off"), "the bytes went to the store beside the link");
}

async fn supervisor_restarts(with_s3: bool) {
    let mut way = Way::new(with_s3).await;
    way.slowly(40);
    let run = way.fleet.begin().await;
    way.node.start();
    way.sending(run, 0).await;
    let way = way.restarted().await;
    way.holds_one_archive(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_restarts_in_the_middle_of_an_upload_has_the_archive_once() {
    futures_util::future::join(supervisor_restarts(false), supervisor_restarts(true)).await;
}

/// Puts a data directory of Iggy where one is looked for first, for one command and what it starts: they see no server
/// that runs on this machine with another one.
pub fn with_data(data: &Path) -> Vec<String> {
    let mounted = "if [ -d /var/lib/iggy ]; then at=/var/lib/iggy; \
                   else mount -t tmpfs none /opt && at=/opt/iggy/local_data && mkdir -p $at; fi && \
                   mount --bind \"$0\" $at && exec \"$@\"";
    let alone = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let command = ["sh", "-c", mounted, data.to_str().unwrap()];
    alone.iter().chain(&command).map(|word| (*word).to_owned()).collect()
}

/// Segments that cannot be packed smaller: an archive of five parts.
pub fn data_directory() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let partition = folder.path().join("streams/1/topics/1/partitions/1");
    std::fs::create_dir_all(&partition).unwrap();
    std::fs::write(partition.join("00000000000000000000.log"), noise(70 << 20, 7)).unwrap();
    folder
}

async fn archive_in_parts(with_s3: bool) {
    let data = data_directory();
    let mut way = Way::on(with_s3, with_data(data.path())).await;
    // The link; then, to a folder, connections with parts: cut, without an answer, and with a Supervisor that goes.
    way.network.plan(Plan::default());
    for plan in [
        Plan { up: Fate::CutAfter(20 << 20), down: Fate::Pass },
        Plan { up: Fate::Pass, down: Fate::ResetAfter(0) },
        Plan { up: Fate::CutAfter(9 << 20), down: Fate::Pass },
    ] {
        way.network.plan(plan);
    }
    way.slowly(30 << 10);
    let run = way.fleet.begin_with(true).await;
    way.node.start();
    way.sending(run, 20 << 20).await;
    let way = way.restarted().await;
    let row = way.holds_one_archive(run).await;
    assert!(row["size"].as_u64().unwrap() > 70 << 20, "{row:#}");
    if !with_s3 {
        let (up, _) = way.network.passed();
        assert!(
            up < (70 + 4 * 16 + 16) << 20,
            "{up} bytes went up: more than the parts that were on their way"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_parts_survives_a_broken_network_and_a_new_supervisor_in_a_folder() {
    archive_in_parts(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_parts_survives_a_broken_network_and_a_new_supervisor_in_an_s3_store() {
    archive_in_parts(true).await;
}
