use proptest::prelude::*;

use super::*;

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (format!("{DOMAIN}/{key}"), (*value).to_owned())).collect()
}

fn parse(key: &str, value: &str) -> Result<Settings, SettingsError> {
    Settings::parse(&annotations(&[(key, value)]))
}

#[test]
fn everything_is_read() {
    let all = annotations(&[
        ("command", "superset db upgrade"),
        ("container", "web"),
        ("entrypoint", "/tini -- hydra"),
        ("image", "orders-migrations:1"),
        ("env", r#"[{"name":"DB_USER","valueFrom":{"secretKeyRef":{"name":"ddl","key":"user"}}}]"#),
        ("revision", "2"),
        ("identity-env", "DB_NAME, DB_SCHEMA"),
        ("group", "orders-db"),
        ("timeout", "30m"),
        ("backoff-limit", "3"),
        ("suspend", "true"),
        ("wait-for", "tcp://db:5432,http://auth:8080/healthz"),
        ("verify", r#"["alembic", "check"]"#),
        ("lock-env", "DATABASE_URL"),
    ]);
    let settings = Settings::parse(&all).expect("all valid");
    assert_eq!(settings.command.as_deref(), Some(&["superset", "db", "upgrade"].map(String::from)[..]));
    assert_eq!(settings.container.as_deref(), Some("web"));
    assert_eq!(settings.entrypoint.as_deref(), Some(&["/tini", "--", "hydra"].map(String::from)[..]));
    assert_eq!(settings.image.as_deref(), Some("orders-migrations:1"));
    assert_eq!(settings.env.len(), 1);
    assert_eq!(settings.revision.as_deref(), Some("2"));
    assert_eq!(settings.identity_env, Some(["DB_NAME", "DB_SCHEMA"].map(String::from).into()));
    assert_eq!(settings.group.as_ref().map(GroupName::as_str), Some("orders-db"));
    let policy = Policy { timeout: Some(Duration::from_secs(1800)), backoff_limit: 3, suspend: true };
    assert_eq!(settings.policy, policy);
    assert_eq!(
        settings.wait_for.iter().map(Address::as_str).collect::<Vec<_>>(),
        ["tcp://db:5432", "http://auth:8080/healthz"]
    );
    assert_eq!(settings.verify.as_deref(), Some(&["alembic", "check"].map(String::from)[..]));
    assert_eq!(settings.lock_env.as_deref(), Some("DATABASE_URL"));
}

#[test]
fn a_url_in_the_place_of_its_variable_is_refused_without_its_password() {
    let error = parse("lock-env", "postgres://app:Geheim42@db/orders?x=y").expect_err("no variable's name");
    assert!(!error.to_string().contains("Geheim42"), "{error}");
}

#[test]
fn other_domains_do_not_matter() {
    let mut others = annotations(&[]);
    for key in ["command", "example.com/command", "migration-gate.dev", "migration-gate.devx/command"] {
        others.insert(key.to_owned(), "&&".to_owned());
    }
    assert_eq!(Settings::parse(&others), Ok(Settings::default()));
}

#[test]
fn bad_values_are_refused_by_name() {
    for (key, value) in [
        ("command", ""),
        ("command", "a && b"),
        ("command", "[]"),
        ("command", r#"[""]"#),
        ("command", r#"["a", 1]"#),
        ("command", r#"["a\u0000"]"#),
        ("container", "Web"),
        ("entrypoint", ""),
        ("entrypoint", "hydra; true"),
        ("image", ""),
        ("image", "a b"),
        ("env", "DB_USER=owner"),
        ("env", r#"{"name":"A"}"#),
        ("env", r#"[{"value":"A"}]"#),
        ("env", r#"[{"name":"A","value":1}]"#),
        ("env", r#"[{"name":"A","valeu":"1"}]"#),
        ("env", r#"[{"name":"A=","value":"1"}]"#),
        ("env", r#"[{"name":"A","value":"1"},{"name":"A","value":"2"}]"#),
        ("env", r#"[{"name":"A","value":"1","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]"#),
        ("identity-env", "A,,B"),
        ("lock-env", ""),
        ("lock-env", "A=B"),
        ("group", "Orders"),
        ("timeout", "600"),
        ("backoff-limit", "0"),
        ("backoff-limit", "many"),
        ("suspend", "yes"),
        ("wait-for", "db:5432"),
        ("wait-for", ""),
        ("verify", "a | b"),
    ] {
        let error = parse(key, value).expect_err(value);
        assert_eq!(error.key, format!("{DOMAIN}/{key}"), "{value}");
        assert!(error.problem.contains(&quoted(value)), "{error}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    for (misspelt, meant) in [
        ("comand", "command"),
        ("commands", "command"),
        ("containers", "container"),
        ("entry-point", "entrypoint"),
        ("img", "image"),
        ("waitfor", "wait-for"),
        ("wait_for", "wait-for"),
        ("back-off-limit", "backoff-limit"),
        ("backofflimit", "backoff-limit"),
        ("Timeout", "timeout"),
        ("time-out", "timeout"),
        ("lockenv", "lock-env"),
        ("identity", "identity-env"),
        ("suspended", "suspend"),
        ("verfiy", "verify"),
    ] {
        let text = parse(misspelt, "x").expect_err("misspelt").to_string();
        assert!(text.contains(&format!("did you mean migration-gate.dev/{meant}?")), "{text}");
    }
    for unknown in ["nonsense", "replicas", "enabled", "lock-timeout", "version", "user", "x"] {
        let text = parse(unknown, "x").expect_err("unknown").to_string();
        assert!(!text.contains("did you mean") && text.contains("backoff-limit"), "{text}");
    }
    let text = parse("signal", "{}").expect_err("ours").to_string();
    assert!(text.contains("written by migration-gate"), "{text}");
}

#[test]
fn the_controller_reads_its_own_three_whatever_the_others_are() {
    let bad = annotations(&[("comand", "x"), ("timeout", "1m")]);
    assert_eq!(Policy::of(&bad).map(|p| p.timeout), Ok(Some(Duration::from_secs(60))));
    assert_eq!(Policy::of(&annotations(&[])), Ok(Policy::default()));
    assert!(Policy::of(&annotations(&[("timeout", "soon")])).is_err());
}

proptest! {
    #[test]
    fn any_value_is_read_or_refused(
        key in prop::sample::select(RULES.map(|rule| rule.key).to_vec()),
        value in prop_oneof!["\\PC{0,80}", r#"[\[{\]}",:a-z0-9 ]{0,60}"#],
    ) {
        if let Err(error) = Settings::parse(&BTreeMap::from([(key.to_owned(), value)])) {
            prop_assert_eq!(&error.key, key);
            prop_assert!(error.to_string().chars().count() < 700, "{}", error);
        }
    }
}
