//! Until when a release of an operating system gets security fixes, known without asking anybody.

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

/// A release as /etc/os-release names it, and the last day of its free security fixes.
#[derive(Debug, PartialEq, Eq)]
pub struct Release {
    /// `ID=` of os-release(5).
    pub id: &'static str,
    /// `VERSION_ID=`, or its part before the first dot where the vendor promises by major version.
    pub version: &'static str,
    pub ends: Date,
    /// Last day of the fixes that the vendor sells beyond that.
    pub paid_until: Option<Date>,
}

const fn free(id: &'static str, version: &'static str, ends: Date) -> Release {
    Release { id, version, ends, paid_until: None }
}

const fn paid(id: &'static str, version: &'static str, ends: Date, until: Date) -> Release {
    Release { id, version, ends, paid_until: Some(until) }
}

/// As of October 2025. Sources: distro-info-data (Debian with its LTS, Ubuntu), the life cycle pages of Red Hat,
/// AlmaLinux, Rocky Linux, Oracle, CentOS, Amazon Linux, SUSE and openSUSE.
const RELEASES: &[Release] = &[
    paid("debian", "10", date(2024, 6, 30), date(2029, 6, 30)),
    paid("debian", "11", date(2026, 8, 31), date(2031, 6, 30)),
    paid("debian", "12", date(2028, 6, 30), date(2033, 6, 30)),
    paid("debian", "13", date(2030, 6, 30), date(2035, 6, 30)),
    paid("ubuntu", "16.04", date(2021, 4, 30), date(2026, 4, 23)),
    paid("ubuntu", "18.04", date(2023, 5, 31), date(2028, 4, 26)),
    paid("ubuntu", "20.04", date(2025, 5, 29), date(2030, 4, 23)),
    paid("ubuntu", "22.04", date(2027, 6, 1), date(2032, 4, 21)),
    free("ubuntu", "23.04", date(2024, 1, 25)),
    free("ubuntu", "23.10", date(2024, 7, 11)),
    paid("ubuntu", "24.04", date(2029, 5, 31), date(2034, 4, 25)),
    free("ubuntu", "24.10", date(2025, 7, 10)),
    free("ubuntu", "25.04", date(2026, 1, 15)),
    free("ubuntu", "25.10", date(2026, 7, 9)),
    paid("ubuntu", "26.04", date(2031, 5, 29), date(2036, 4, 23)),
    paid("rhel", "7", date(2024, 6, 30), date(2028, 6, 30)),
    free("rhel", "8", date(2029, 5, 31)),
    free("rhel", "9", date(2032, 5, 31)),
    free("rhel", "10", date(2035, 5, 31)),
    free("centos", "7", date(2024, 6, 30)),
    // CentOS Stream 8: CentOS Linux 8 ended earlier, on 2021-12-31.
    free("centos", "8", date(2024, 5, 31)),
    free("centos", "9", date(2027, 5, 31)),
    free("centos", "10", date(2030, 1, 1)),
    free("rocky", "8", date(2029, 5, 31)),
    free("rocky", "9", date(2032, 5, 31)),
    free("rocky", "10", date(2035, 5, 31)),
    free("almalinux", "8", date(2029, 3, 1)),
    free("almalinux", "9", date(2032, 5, 31)),
    free("almalinux", "10", date(2035, 5, 31)),
    paid("ol", "7", date(2024, 12, 31), date(2028, 6, 30)),
    free("ol", "8", date(2029, 7, 31)),
    free("ol", "9", date(2032, 6, 30)),
    free("ol", "10", date(2035, 6, 30)),
    free("amzn", "2", date(2026, 6, 30)),
    free("amzn", "2018", date(2023, 12, 31)),
    free("amzn", "2023", date(2029, 6, 30)),
    paid("sles", "12.5", date(2024, 10, 31), date(2027, 10, 31)),
    paid("sles", "15.4", date(2023, 12, 31), date(2026, 12, 31)),
    paid("sles", "15.5", date(2024, 12, 31), date(2027, 12, 31)),
    paid("sles", "15.6", date(2025, 12, 31), date(2028, 12, 31)),
    paid("sles", "15.7", date(2031, 7, 31), date(2034, 7, 31)),
    free("sles", "16.0", date(2027, 11, 30)),
    free("opensuse-leap", "15.5", date(2024, 12, 31)),
    free("opensuse-leap", "15.6", date(2026, 4, 30)),
    free("opensuse-leap", "16.0", date(2027, 10, 31)),
];

/// What is known of a release; the whole version counts before its major part.
pub fn find(id: &str, version: &str) -> Option<&'static Release> {
    let major = version.split('.').next().unwrap_or_default();
    let of = |wanted: &str| RELEASES.iter().find(|release| release.id == id && release.version == wanted);
    of(version).or_else(|| of(major))
}

impl Release {
    /// Days from Unix time `now` to the end; negative when it is over.
    pub fn days_left(&self, now: i64) -> i64 {
        let today = jiff::Timestamp::from_second(now).unwrap_or_default().to_zoned(TimeZone::UTC).date();
        let span = self.ends.duration_since(today);
        span.as_secs() / 86_400
    }

    /// Whether fixes can still be bought at Unix time `now`.
    pub fn can_be_bought(&self, now: i64) -> bool {
        let today = jiff::Timestamp::from_second(now).unwrap_or_default().to_zoned(TimeZone::UTC).date();
        self.paid_until.is_some_and(|until| until >= today)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T12:00:00Z.
    const NOW: i64 = 1_795_262_400;

    #[test]
    fn a_release_is_found_by_its_version_or_its_major_version() {
        assert_eq!(find("ubuntu", "24.04").unwrap().ends, date(2029, 5, 31));
        assert_eq!(find("rocky", "9.4").unwrap().version, "9");
        assert_eq!(find("sles", "15.6").unwrap().version, "15.6");
        assert_eq!((find("sles", "15.1"), find("arch", ""), find("ubuntu", "24")), (None, None, None));
    }

    #[test]
    fn days_are_counted_to_the_last_day() {
        assert_eq!(find("debian", "11").unwrap().days_left(NOW), -82);
        assert_eq!(find("debian", "12").unwrap().days_left(NOW), 587);
        assert!(find("debian", "11").unwrap().can_be_bought(NOW));
        assert!(!find("ubuntu", "16.04").unwrap().can_be_bought(NOW));
    }

    #[test]
    fn no_release_is_listed_twice_and_paid_fixes_follow_the_free_ones() {
        for (index, release) in RELEASES.iter().enumerate() {
            assert!(release.paid_until.is_none_or(|until| until > release.ends), "{release:?}");
            let twin = RELEASES[..index]
                .iter()
                .find(|other| (other.id, other.version) == (release.id, release.version));
            assert_eq!(twin, None);
        }
    }
}
