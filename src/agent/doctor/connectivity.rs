//! The way to the Supervisor, step by step as the link takes it, until one does not lead on.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, timeout};
use warden_host::quantity;

use super::{Finding, fail, pass, warn};
use crate::link::{CONNECT_LIMIT, Failure, Route, upgrade};
use crate::{Identity, Settings};

/// A clock may be so far from the Supervisor's: HTTP tells whole seconds, and an answer takes its time.
const CLOCK_NEAR: Duration = Duration::from_secs(5);
/// From here on certificates and addresses that run out are misjudged.
const CLOCK_FAR: Duration = Duration::from_secs(300);

/// The credential is shown, and the link closed again before it is one: an agent that is connected stays so.
pub async fn to_supervisor(settings: &Settings, identity: &Identity, now_ms: i64) -> Vec<Finding> {
    let endpoint = settings.supervisor.as_ref().unwrap_or(&identity.supervisor);
    let began = Instant::now();
    let mut findings = Vec::new();
    let walked = timeout(CONNECT_LIMIT, walk(settings, identity, &mut findings)).await;
    let date = match walked {
        Ok(date) => date,
        Err(_) => {
            let told = format!("{endpoint} does not answer within {} s", CONNECT_LIMIT.as_secs());
            findings.push(fail(
                "supervisor",
                told,
                "look for a firewall that drops, or a proxy that does not answer",
            ));
            None
        }
    };
    // The date was told at the end of the way.
    let now_ms = now_ms.saturating_add(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX));
    findings.extend(date.and_then(|date| of_clock(&date, now_ms)));
    findings
}

/// The Supervisor's date, if it was reached.
async fn walk(settings: &Settings, identity: &Identity, findings: &mut Vec<Finding>) -> Option<String> {
    let endpoint = settings.supervisor.as_ref().unwrap_or(&identity.supervisor);
    let route = match Route::new(settings, endpoint, identity.ca.as_deref()) {
        Ok(route) => route,
        Err(error) => {
            findings.push(fail("proxy", format!("{error:#}"), "set agent.proxy in /etc/warden/warden.toml"));
            return None;
        }
    };
    let (host, port) = route.first_hop();
    let whose = if route.proxy.is_some() { "the proxy " } else { "" };
    if host.parse::<std::net::IpAddr>().is_err() {
        let began = Instant::now();
        let found = tokio::net::lookup_host((host, port)).await;
        let found =
            found.map(Iterator::collect::<Vec<_>>).with_context(|| format!("{whose}{host} is not resolved"));
        match found {
            Ok(addresses) => {
                let mut told: Vec<String> =
                    addresses.iter().map(|address| address.ip().to_string()).collect();
                told.dedup();
                findings.push(pass("name", format!("{whose}{host} is {}{}", told.join(", "), took(began))));
            }
            Err(error) => {
                let advice = format!("getent hosts {host}; look at /etc/resolv.conf");
                findings.push(fail("name", format!("{error:#}"), advice));
                return None;
            }
        }
    }
    let began = Instant::now();
    let stream = match route.connect().await {
        Ok(stream) => stream,
        Err(error) => {
            let advice = format!("is it up, and does a firewall let port {port} of {host} through?");
            findings.push(fail("connection", format!("{error:#}"), advice));
            return None;
        }
    };
    let by = route.proxy.as_ref().map_or_else(String::new, |proxy| format!(" by the proxy {}", proxy.host));
    findings.push(pass("connection", format!("{} takes one{by}{}", endpoint.authority(), took(began))));
    let began = Instant::now();
    let stream = match route.secure(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            let advice =
                format!("see what is served: openssl s_client -showcerts -connect {}", endpoint.authority());
            findings.push(fail("TLS", format!("{error:#}"), advice));
            return None;
        }
    };
    findings.push(match endpoint.secure {
        true => pass("TLS", format!("it proves to be {}{}", endpoint.host, took(began))),
        false => pass("TLS", "none, and none is needed on one host"),
    });
    match upgrade(stream, endpoint, &identity.credential).await {
        Ok(opened) => {
            findings.push(pass("credential", "the Supervisor accepts it"));
            opened.date
        }
        Err(Failure::Refused(why)) => {
            let advice = "enrol anew with a new token: warden enroll --replace";
            findings.push(fail("credential", why, advice));
            None
        }
        Err(Failure::Busy { why, .. }) => {
            findings.push(warn("credential", why, "the agent tries again by itself"));
            None
        }
        Err(Failure::Broken(error)) => {
            let advice = format!(
                "is {endpoint} the address of a Supervisor, and does a proxy before it pass websockets?"
            );
            findings.push(fail("credential", format!("{error:#}"), advice));
            None
        }
    }
}

fn of_clock(date: &str, now_ms: i64) -> Option<Finding> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
    let ours = now_ms.div_euclid(1000);
    let apart = Duration::from_secs(ours.abs_diff(theirs));
    let direction = if ours > theirs { "ahead of" } else { "behind" };
    let told = format!("{} {direction} the Supervisor's", quantity::duration(apart.as_secs_f64()));
    let advice = "start chrony or systemd-timesyncd here, and look at the Supervisor's clock: timedatectl";
    Some(match apart {
        apart if apart > CLOCK_FAR => fail("clock", told, advice),
        apart if apart > CLOCK_NEAR => warn("clock", told, advice),
        _ => pass("clock", "as the Supervisor's"),
    })
}

fn took(began: Instant) -> String {
    format!(", {:.1} ms", began.elapsed().as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told_with_the_direction() {
        let at = |now_ms| {
            let finding = of_clock("Sun, 06 Nov 1994 08:49:37 GMT", now_ms).unwrap();
            (finding.verdict, finding.told)
        };
        const THEIRS: i64 = 784_111_777_000;
        assert_eq!(at(THEIRS + 5_900), (Verdict::Pass, "as the Supervisor's".to_owned()));
        assert_eq!(at(THEIRS - 6_000), (Verdict::Warn, "6 s behind the Supervisor's".to_owned()));
        assert_eq!(at(THEIRS + 301_000), (Verdict::Fail, "5 min 1 s ahead of the Supervisor's".to_owned()));
        assert_eq!(of_clock("yesterday", 0), None);
    }
}
