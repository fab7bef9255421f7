//! The tokens of providers, by what they begin with: as their documentation and secret scanners describe them.

/// How a provider's tokens look: what they begin with, and how many characters follow at least.
pub(super) struct Provider {
    pub(super) prefix: &'static str,
    pub(super) rule: &'static str,
    least: usize,
    /// Signs besides letters and digits.
    signs: &'static [u8],
}

const fn provider(prefix: &'static str, rule: &'static str, least: usize, signs: &'static [u8]) -> Provider {
    Provider { prefix, rule, least, signs }
}

pub(super) const PROVIDERS: &[Provider] = &[
    provider("AKIA", "aws-access-key", 16, b""),
    provider("ASIA", "aws-access-key", 16, b""),
    provider("ABIA", "aws-access-key", 16, b""),
    provider("ACCA", "aws-access-key", 16, b""),
    provider("AIza", "gcp-key", 35, b"_-"),
    provider("ya29.", "gcp-token", 20, b"_-."),
    provider("GOCSPX-", "gcp-secret", 20, b"_-"),
    provider("ghp_", "github-token", 30, b"_"),
    provider("gho_", "github-token", 30, b"_"),
    provider("ghu_", "github-token", 30, b"_"),
    provider("ghs_", "github-token", 30, b"_"),
    provider("ghr_", "github-token", 30, b"_"),
    provider("github_pat_", "github-token", 30, b"_"),
    provider("glpat-", "gitlab-token", 20, b"_-."),
    provider("glrt-", "gitlab-token", 20, b"_-."),
    provider("gldt-", "gitlab-token", 20, b"_-."),
    provider("glcbt-", "gitlab-token", 20, b"_-."),
    provider("glptt-", "gitlab-token", 20, b"_-."),
    provider("glsoat-", "gitlab-token", 20, b"_-."),
    provider("glft-", "gitlab-token", 20, b"_-."),
    provider("xoxb-", "slack-token", 16, b"-"),
    provider("xoxp-", "slack-token", 16, b"-"),
    provider("xoxa-", "slack-token", 16, b"-"),
    provider("xoxr-", "slack-token", 16, b"-"),
    provider("xoxs-", "slack-token", 16, b"-"),
    provider("xoxe.", "slack-token", 16, b"-."),
    provider("xapp-", "slack-token", 16, b"-"),
    provider("hooks.slack.com/services/", "slack-webhook", 20, b"/"),
    provider("/api/webhooks/", "discord-webhook", 40, b"/_-"),
    provider("sk_live_", "stripe-key", 16, b"_"),
    provider("sk_test_", "stripe-key", 16, b"_"),
    provider("rk_live_", "stripe-key", 16, b"_"),
    provider("rk_test_", "stripe-key", 16, b"_"),
    provider("whsec_", "stripe-key", 16, b"+/="),
    provider("npm_", "npm-token", 36, b""),
    provider("pypi-AgE", "pypi-token", 40, b"_-"),
    provider("hvs.", "vault-token", 20, b"_-"),
    provider("hvb.", "vault-token", 20, b"_-"),
    provider("hvr.", "vault-token", 20, b"_-"),
    provider("AGE-SECRET-KEY-1", "age-key", 40, b""),
    provider("AGE-SECRET-KEY-PQ-1", "age-key", 40, b""),
    provider("sk-ant-", "api-key", 20, b"_-"),
    provider("sk-proj-", "api-key", 20, b"_-"),
    provider("sk-svcacct-", "api-key", 20, b"_-"),
    provider("SG.", "sendgrid-key", 40, b"_-."),
    provider("dop_v1_", "digitalocean-token", 40, b""),
    provider("dckr_pat_", "docker-token", 20, b"_-"),
    provider("shpat_", "shopify-token", 30, b""),
    provider("hf_", "huggingface-token", 30, b""),
    provider("glc_", "grafana-token", 30, b"_+/="),
    provider("glsa_", "grafana-token", 30, b"_"),
    provider("NRAK-", "newrelic-key", 20, b""),
    provider("tskey-", "tailscale-key", 16, b"-"),
    provider("ATATT3", "atlassian-token", 40, b"_-="),
    provider("rubygems_", "rubygems-token", 40, b""),
    provider("sntrys_", "sentry-token", 40, b"_=+/"),
    provider("xkeysib-", "brevo-key", 40, b"-"),
    provider("lin_api_", "linear-key", 30, b""),
    provider("dapi", "databricks-token", 32, b"-"),
    provider("A3-", "1password-key", 30, b"-"),
    provider("pat", "airtable-token", 79, b"."),
    provider("ops_eyJ", "1password-token", 100, b"+/="),
    provider("p8e-", "adobe-secret", 32, b""),
    provider("LTAI", "alibaba-key", 20, b""),
    provider("AKCp", "artifactory-key", 60, b""),
    provider("cmVmd", "artifactory-key", 59, b""),
    provider("A3T", "aws-access-key", 17, b""),
    provider("ABSK", "aws-bedrock-key", 60, b"+/="),
    provider("bedrock-api-key-", "aws-bedrock-key", 40, b"+/="),
    provider("FwoGZXIvYXdz", "aws-session-token", 80, b"+/="),
    provider("IQoJb3JpZ2lu", "aws-session-token", 80, b"+/="),
    provider("amzn.mws.", "aws-mws-key", 36, b"-"),
    provider("4b1d", "clickhouse-key", 38, b""),
    provider("CLOJARS_", "clojars-token", 60, b""),
    provider("v1.0-", "cloudflare-key", 160, b"-"),
    provider("doo_v1_", "digitalocean-token", 40, b""),
    provider("dor_v1_", "digitalocean-token", 40, b""),
    provider("dp.pt.", "doppler-token", 40, b""),
    provider("dp.st.", "doppler-token", 40, b".-_"),
    provider("dp.ct.", "doppler-token", 40, b""),
    provider("duffel_live_", "duffel-token", 40, b"_-="),
    provider("duffel_test_", "duffel-token", 40, b"_-="),
    provider("dt0c01.", "dynatrace-token", 80, b"."),
    provider("EZAK", "easypost-key", 54, b""),
    provider("EZTK", "easypost-key", 54, b""),
    provider("EAAC", "facebook-token", 90, b""),
    provider("EAAM", "facebook-token", 90, b""),
    provider("FLWSECK_TEST-", "flutterwave-key", 12, b"-"),
    provider("FLWSECK-", "flutterwave-key", 12, b"-"),
    provider("fo1_", "fly-token", 40, b"_-"),
    provider("fm1a_", "fly-token", 90, b"+/="),
    provider("fm1r_", "fly-token", 90, b"+/="),
    provider("fm2_", "fly-token", 90, b"+/="),
    provider("fio-u-", "frameio-token", 60, b"-_="),
    provider("1//0", "gcp-token", 40, b"_-"),
    provider("4/0A", "gcp-token", 40, b"_-"),
    provider("glffct-", "gitlab-token", 20, b"_-."),
    provider("glimt-", "gitlab-token", 20, b"_-."),
    provider("glagent-", "gitlab-token", 40, b"_-."),
    provider("gloas-", "gitlab-token", 40, b"_-."),
    provider("glwt-", "gitlab-token", 20, b"_-."),
    provider("GR1348941", "gitlab-token", 20, b"_-"),
    provider("eyJrIjoi", "grafana-token", 60, b"+/="),
    provider("pat.", "harness-key", 60, b"._-"),
    provider("sat.", "harness-key", 60, b"._-"),
    provider("HRKU-AA", "heroku-key", 50, b"_-"),
    provider("api_org_", "huggingface-token", 30, b""),
    provider("ico-", "infracost-key", 32, b""),
    provider("s-s4t2ud-", "intra42-secret", 60, b""),
    provider("s-s4t2af-", "intra42-secret", 60, b""),
    provider("ntn_", "notion-token", 40, b""),
    provider("secret_", "notion-token", 43, b""),
    provider("API-", "octopus-key", 26, b""),
    provider("sha256~", "openshift-token", 40, b"_-"),
    provider("pplx-", "perplexity-key", 40, b""),
    provider("pscale_tkn_", "planetscale-token", 32, b"_-=."),
    provider("pscale_pw_", "planetscale-token", 32, b"_-=."),
    provider("pscale_oauth_", "planetscale-token", 32, b"_-=."),
    provider("PMAK-", "postman-key", 50, b"-"),
    provider("pnu_", "prefect-key", 36, b""),
    provider("pul-", "pulumi-token", 40, b""),
    provider("rdme_", "readme-token", 60, b""),
    provider("tk-us-", "scalingo-token", 40, b"_-"),
    provider("sntryu_", "sentry-token", 60, b""),
    provider("sm_aat_", "settlemint-token", 16, b""),
    provider("sm_pat_", "settlemint-token", 16, b""),
    provider("sm_sat_", "settlemint-token", 16, b""),
    provider("shippo_live_", "shippo-token", 40, b""),
    provider("shippo_test_", "shippo-token", 40, b""),
    provider("shpca_", "shopify-token", 30, b""),
    provider("shppa_", "shopify-token", 30, b""),
    provider("shpss_", "shopify-token", 30, b""),
    provider("xoxe-", "slack-token", 16, b"-"),
    provider("xoxo-", "slack-token", 16, b"-"),
    provider("hooks.slack.com/workflows/", "slack-webhook", 20, b"/"),
    provider("hooks.slack.com/triggers/", "slack-webhook", 20, b"/"),
    provider("webhook.office.com/webhookb2/", "teams-webhook", 40, b"/-@"),
    provider("sgp_", "sourcegraph-token", 40, b"_"),
    provider("sq0atp-", "square-token", 22, b"_-"),
    provider("sq0csp-", "square-token", 22, b"_-"),
    provider("sk_prod_", "stripe-key", 16, b"_"),
    provider("rk_prod_", "stripe-key", 16, b"_"),
    provider("NRII-", "newrelic-key", 20, b"_-"),
    provider("NRIQ-", "newrelic-key", 20, b"_-"),
    provider("NRJS-", "newrelic-key", 16, b""),
    provider("pk.eyJ", "mapbox-token", 50, b"._-"),
    provider("sk.eyJ", "mapbox-token", 50, b"._-"),
    provider("AQVN", "yandex-key", 35, b"_-"),
    provider("t1.", "yandex-token", 100, b"._-="),
    provider("nfp_", "netlify-token", 36, b""),
    provider("SWMTKN-1-", "docker-swarm-token", 50, b"-"),
    provider("K10", "k3s-token", 64, b":"),
    provider("sbp_", "supabase-token", 40, b""),
    provider("key-", "mailgun-key", 32, b""),
    provider("sk-admin-", "api-key", 20, b"_-"),
    provider("sk-or-v1-", "api-key", 40, b""),
    provider("gsk_", "groq-key", 40, b""),
    provider("xai-", "xai-key", 60, b""),
    provider("r8_", "replicate-token", 36, b""),
    provider("nvapi-", "nvidia-key", 50, b"_-"),
    provider("lsv2_pt_", "langsmith-key", 40, b"_"),
    provider("lsv2_sk_", "langsmith-key", 40, b"_"),
    provider("tvly-", "tavily-key", 28, b"-"),
    provider("jina_", "jina-key", 40, b"_"),
    provider("figd_", "figma-token", 36, b"_-"),
    provider("bkua_", "buildkite-token", 36, b""),
    provider("CCIPAT_", "circleci-token", 40, b"_"),
    provider("CFPAT-", "contentful-token", 40, b"_-"),
    provider("pat-na1-", "hubspot-token", 30, b"-"),
    provider("pat-eu1-", "hubspot-token", 30, b"-"),
    provider("phx_", "posthog-key", 36, b""),
    provider("rnd_", "render-key", 28, b""),
    provider("sb_secret_", "supabase-token", 28, b"_-"),
    provider("re_", "resend-key", 32, b"_"),
    provider("ATCTT3", "atlassian-token", 60, b"_-="),
    provider("ATBB", "bitbucket-token", 28, b""),
    provider("BBDC-", "bitbucket-token", 40, b"+/="),
    provider("dp.scim.", "doppler-token", 40, b""),
    provider("mlsn.", "mailersend-key", 60, b""),
    provider("ory_at_", "ory-token", 40, b"_-."),
    provider("ory_rt_", "ory-token", 40, b"_-."),
    provider("ory_st_", "ory-token", 28, b"_-."),
    provider("apify_api_", "apify-token", 30, b""),
    provider("xoxc-", "slack-token", 16, b"-"),
    provider("xoxd-", "slack-token", 16, b"-%+/="),
    provider("oy2", "nuget-key", 43, b""),
    provider("sl.", "dropbox-token", 120, b"_-"),
    provider("AKID", "tencent-key", 32, b""),
    provider("aio_", "adafruit-key", 28, b""),
    provider("tfp_", "typeform-token", 40, b"_-="),
    provider("shptka_", "shopify-token", 30, b""),
    provider("cio", "crates-token", 32, b""),
    provider("vault:v1:", "vault-transit", 40, b"+/="),
];

/// The end of a provider's token that begins at `at`; for web hooks the path alone is the secret.
pub(super) fn provider_range(bytes: &[u8], at: usize, provider: &Provider) -> Option<(usize, usize)> {
    let after = at + provider.prefix.len();
    // Found whatever its case; only hosts may be written in any.
    let hook = provider.prefix.contains("/") && provider.prefix.len() > 8;
    if !hook && &bytes[at..after] != provider.prefix.as_bytes() {
        return None;
    }
    let inside =
        at.checked_sub(1).is_some_and(|last| bytes[last].is_ascii_alphanumeric() || bytes[last] == b'_');
    // `\nAKIA...` in a written string is not a longer word.
    let written = at >= 2 && bytes[at - 2] == b'\\' && matches!(bytes[at - 1], b'n' | b't' | b'r');
    if inside && !hook && !written {
        return None;
    }
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || provider.signs.contains(byte);
    let length = bytes[after..].iter().take_while(|byte| word(byte)).count();
    let tail = &bytes[after..after + length];
    let exact = || length == provider.least;
    let hexadecimal = |count: usize| tail[..length.min(count)].iter().all(u8::is_ascii_hexdigit);
    let fits = match provider.rule {
        "aws-access-key" => exact() && tail.iter().all(|byte| !byte.is_ascii_lowercase()),
        "octopus-key" => exact() && tail.iter().all(|byte| !byte.is_ascii_lowercase()),
        "1password-key" => tail.iter().all(|byte| !byte.is_ascii_lowercase()) && tail.get(6) == Some(&b'-'),
        "airtable-token" => {
            exact() && tail.get(14) == Some(&b'.') && tail[15..].iter().all(u8::is_ascii_hexdigit)
        }
        "databricks-token" => hexadecimal(32),
        "mailgun-key" => exact() && hexadecimal(32),
        "pulumi-token" | "shopify-token" => hexadecimal(30),
        "k3s-token" => hexadecimal(64),
        "cloudflare-key" => hexadecimal(24),
        "clickhouse-key" | "easypost-key" | "alibaba-key" | "infracost-key" => exact() && mixed(tail),
        // Forty lower-case letters are a name, not a token.
        _ => tail.iter().any(u8::is_ascii_digit) || tail.iter().any(u8::is_ascii_uppercase),
    };
    let start = if hook { after } else { at };
    (length >= provider.least && fits).then_some((start, after + length))
}

/// Hexadecimal is a hash; letters of both kinds or beyond `f` are not.
fn mixed(tail: &[u8]) -> bool {
    tail.iter().any(u8::is_ascii_digit)
        && tail.iter().any(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_hexdigit())
}

/// Tokens that are known by a part in their middle or at their end.
pub(super) struct Infix {
    pub(super) part: &'static str,
    pub(super) rule: &'static str,
    /// Characters before and after the part, at least.
    before: usize,
    after: usize,
    signs: &'static [u8],
}

pub(super) const INFIXES: &[Infix] = &[
    Infix { part: "Q~", rule: "azure-secret", before: 4, after: 31, signs: b"_~.-" },
    Infix { part: ".atlasv1.", rule: "terraform-token", before: 14, after: 60, signs: b"._-=" },
    Infix { part: ".acc-", rule: "authress-key", before: 12, after: 40, signs: b"._-=+/" },
    Infix { part: "T3BlbkFJ", rule: "api-key", before: 20, after: 20, signs: b"_-" },
    Infix { part: "NRAL", rule: "newrelic-key", before: 36, after: 0, signs: b"" },
    Infix { part: "_mmk", rule: "maxmind-key", before: 36, after: 0, signs: b"_" },
    Infix { part: "-us", rule: "mailchimp-key", before: 32, after: 1, signs: b"-" },
];

/// The word around a part at `at`, if it is long enough on both sides.
pub(super) fn infix_range(bytes: &[u8], floor: usize, at: usize, infix: &Infix) -> Option<(usize, usize)> {
    let end = at + infix.part.len();
    if &bytes[at..end] != infix.part.as_bytes() {
        return None;
    }
    // Longest known token of this kind.
    const BYTES: usize = 512;
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || infix.signs.contains(byte);
    let before = bytes[floor..at].iter().rev().take(BYTES).take_while(|byte| word(byte)).count();
    let after = bytes[end..].iter().take(BYTES).take_while(|byte| word(byte)).count();
    let fits = match infix.rule {
        "azure-secret" => before > 0 && bytes[at - 1].is_ascii_digit() && after <= 37,
        "mailchimp-key" => {
            before == 32
                && after <= 2
                && bytes[at - before..at].iter().all(u8::is_ascii_hexdigit)
                && bytes[end..end + after].iter().all(u8::is_ascii_digit)
        }
        _ => bytes[at - before..end + after].iter().any(u8::is_ascii_digit),
    };
    let before = if infix.rule == "azure-secret" { before.min(4) } else { before };
    (before >= infix.before && after >= infix.after && fits).then_some((at - before, end + after))
}
