//! Plans, enrolments and keys, against a real Supervisor.

use serde_json::Value;

use super::real::{Real, shape};
use super::told;

#[test]
fn a_deployment_is_renamed_gets_another_plan_and_goes() {
    let real = Real::start();
    let id = real.says(&["deployments", "create", "events-prod"]);
    let id = id.trim();
    let shown =
        real.says(&["deployments", "update", "events-prod", "--name", "events-live", "--plan", "pro"]);
    let fields: Vec<(&str, &str)> = shown
        .lines()
        .map(|line| line.split_once("  ").unwrap())
        .map(|(name, value)| (name, value.trim()))
        .collect();
    assert_eq!(fields[..3], [("id", id), ("name", "events-live"), ("plan", "pro")], "{shown}");
    let nothing = real.ctl(&["deployments", "update", "events-live"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(told(&nothing).2.contains("--name <NAME>"), "{nothing:?}");
    let node = real.node("iggy-1");
    let refused = real.ctl(&["deployments", "delete", "events-live"]);
    let expected = "error: it has a node: remove that first, or set force=true (ctl: --force) (deployment_has_nodes, status 409, \
                    ld-request REQUEST)\n";
    assert_eq!((refused.status.code(), &*shape(told(&refused).2)), (Some(2), expected));
    assert_eq!(real.says(&["nodes", "list", "--json"]).matches(&node.to_string()).count(), 1);
    let gone = real.says(&["deployments", "delete", "events-live", "--force"]);
    assert_eq!(gone, format!("deployment {id} deleted\n"));
    assert_eq!(real.says(&["deployments", "list"]), "no deployments\n");
    real.end();
}

#[test]
fn a_token_for_several_nodes_is_listed_and_revoked() {
    let real = Real::start();
    real.says(&["deployments", "create", "events-prod"]);
    let token = real.says(&["enrolments", "create", "--nodes", "20", "--valid", "24h"]);
    assert!(token.starts_with("we_"), "{token}");
    let json: Value = serde_json::from_str(&real.says(&["enrolments", "list", "--json"])).unwrap();
    let id = json["items"][0]["id"].as_str().unwrap().to_owned();
    let time = |name: &str| json["items"][0][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("expires_at").as_second() - time("created_at").as_second(), 86_400);
    assert_eq!(
        shape(&real.says(&["enrolments", "list"])),
        concat!(
            "                ID  NAME  STATUS  NODES  OF  EXPIRES (UTC)        LAST USED (UTC)  CREATED (UTC)\n",
            "##################        open        0  20  YYYY-MM-DD hh:mm:ss                   YYYY-MM-DD hh:mm:ss\n",
        )
    );
    assert_eq!(real.says(&["enrolments", "revoke", &id]), format!("enrolment {id} revoked\n"));
    assert_eq!(real.says(&["enrolments", "list"]), "no enrolments\n");
    for (wrong, said) in [
        (&["--nodes", "0"][..], "0 is not in 1..=1000"),
        (&["--valid", "31d"], "`31d` is out of range: from 1m to 30d"),
        (&["--valid", "60"], "`60` is not a duration; write it as 30m, 24h or 7d"),
        (&["--name", "a", "--nodes", "2"], "cannot be used with"),
    ] {
        let output = real.ctl(&[&["enrolments", "create"], wrong].concat());
        assert!(output.status.code() == Some(2) && told(&output).2.contains(said), "{output:?}");
    }
    real.end();
}

#[test]
fn a_permission_that_there_is_not_is_refused_with_those_there_are() {
    let real = Real::start();
    let output = real.ctl(&["keys", "create", "x", "--permission", "deployment:raed"]);
    assert_eq!(output.status.code(), Some(2));
    for told_of in ["invalid value 'deployment:raed'", "deployment:read", "deployment:config:manage"] {
        assert!(told(&output).2.contains(told_of), "{output:?}");
    }
    real.end();
}
