//! Both ends together, and a network between them that breaks at every byte.

use warden::agent::LinkState;
use warden::supervisor::store::activities::State;

use super::site::{Agent, Site, enrolled};
use crate::supervisor::Backend;
use crate::support::proxy::{Fate, Plan, Proxy};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_links_and_ends_what_it_is_asked() {
    let site = Site::start(Backend::sqlite()).await;
    let (id, credential) = site.enrolled().await;
    let agent = Agent::start(enrolled(&format!("http://{}", site.address), id, &credential));
    site.linked(id).await;
    agent.tells("it is connected", |status| (status.link == LinkState::Connected).then_some(())).await;
    let request = site.order(id).await;
    site.ended(request).await;
    agent.stop().await;
    site.unlinked(id).await;
}

/// A Supervisor, an agent, and a network between them.
struct Course {
    site: Site,
    network: Proxy,
    agent: Agent,
    node: u64,
}

impl Course {
    async fn start() -> Course {
        let site = Site::start(Backend::sqlite()).await;
        let (node, credential) = site.enrolled().await;
        let network = Proxy::before(site.address).await;
        let agent = Agent::start(enrolled(&format!("http://{}", network.address), node, &credential));
        site.linked(node).await;
        Course { site, network, agent, node }
    }

    /// Bytes up and down of one link on which one request is done.
    async fn length(&self) -> (u64, u64) {
        let before = self.network.passed();
        self.run(Plan::default()).await;
        let after = self.network.passed();
        (after.0 - before.0, after.1 - before.1)
    }

    /// One request, over a new link that this befalls.
    async fn run(&self, plan: Plan) {
        self.network.plan(plan);
        self.network.cut();
        let request = self.site.order(self.node).await;
        let ended = self.site.ended(request).await;
        assert_eq!(ended.state, State::Rejected, "{ended:?}");
    }
}

/// Bytes between two cuts of one test: together the three tests cut at every third byte, and so in every field of
/// every message.
const APART: usize = 9;

/// Cuts what goes up and what comes down, from byte `first` on.
async fn cut(first: u64) {
    let course = Course::start().await;
    let (up, down) = course.length().await;
    assert!(up > 500 && down > 300, "{up} {down}");
    for at in (first..up).step_by(APART) {
        course.run(Plan { up: Fate::CutAfter(at), down: Fate::Pass }).await;
    }
    for at in (first..down).step_by(APART) {
        course.run(Plan { up: Fate::Pass, down: Fate::CutAfter(at) }).await;
    }
    course.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_anywhere_loses_nothing() {
    cut(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_three_bytes_later_loses_nothing() {
    cut(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_six_bytes_later_loses_nothing() {
    cut(6).await;
}

/// What follows is read as a frame that never ends: only the silence tells, after half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_come_twice_break_the_link_and_nothing_else() {
    let course = Course::start().await;
    let (up, down) = course.length().await;
    let plans = [
        Plan { up: Fate::RepeatAfter(up / 2), down: Fate::Pass },
        Plan { up: Fate::RepeatAfter(up - 40), down: Fate::Pass },
        Plan { up: Fate::Pass, down: Fate::RepeatAfter(down / 2) },
        Plan { up: Fate::Pass, down: Fate::RepeatAfter(down - 40) },
    ];
    course.agent.stop().await;
    let broken = plans.map(|plan| async move {
        let course = Course::start().await;
        course.run(plan).await;
        course.agent.stop().await;
    });
    futures_util::future::join_all(broken).await;
}

/// How many nodes one Supervisor must hold in a test.
const FLEET: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_agents_are_linked_at_once_and_each_does_its_own_work() {
    let site = Site::start(Backend::sqlite()).await;
    let mut agents = Vec::new();
    for _ in 0..FLEET {
        let (node, credential) = site.enrolled().await;
        agents.push((node, Agent::start(enrolled(&format!("http://{}", site.address), node, &credential))));
    }
    super::until("all are linked", async || (site.hub.connections() == FLEET).then_some(())).await;
    let mut requests = Vec::new();
    for (node, _) in &agents {
        requests.push(site.order(*node).await);
    }
    for ((node, _), request) in agents.iter().zip(requests) {
        let ended = site.ended(request).await;
        assert_eq!((ended.node_id, ended.state), (*node, State::Rejected));
    }
    // A Supervisor that starts anew has all of them back.
    let site = site.stop().await.start().await;
    super::until("all are linked again", async || (site.hub.connections() == FLEET).then_some(())).await;
    futures_util::future::join_all(agents.into_iter().map(|(_, agent)| agent.stop())).await;
    super::until("all are gone", async || (site.hub.connections() == 0).then_some(())).await;
}
