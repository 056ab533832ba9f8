use arrow::datatypes::{DataType, Field};

use super::*;

const GOOD: &str = r#"name = "rise_rate"
survey = "ztf"
function = "rise_rate:rise_rate"
inputs = [
  { name = "jd", type = "list<double>" },
]
returns = "struct<rate: double, n int>"
where = "candidate.ndethist > 2"
timeout = "2m"

[environment]
python = "3.11"
requirements = "lock.txt"
"#;

fn load(manifest: &str, lock: &str) -> Result<Module, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("lock.txt"), lock).unwrap();
    let path = dir.path().join(FILE_NAME);
    std::fs::write(&path, manifest).unwrap();
    Module::load(&path).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

fn refused(from: &str, to: &str, expected: &str) {
    assert!(GOOD.contains(from));
    assert_eq!(load(&GOOD.replace(from, to), "numpy==2.4.6\n").unwrap_err(), expected);
}

#[test]
fn a_manifest_is_a_module() {
    let module = load(GOOD, "# lock\nnumpy==2.4.6  # by hand\n\npandas==3.1.1 ; python_version > '3.9'\n").unwrap();
    assert_eq!(module.timeout, Duration::from_secs(120));
    assert_eq!(module.where_sql.as_deref(), Some("candidate.ndethist > 2"));
    assert_eq!((module.kind, module.on_error, module.batch_rows), (Kind::Pandas, OnError::Null, 4096));
    assert_eq!(module.inputs[0].sql_type.data_type(), &DataType::new_list(DataType::Float64, true));
    let fields = vec![Field::new("rate", DataType::Float64, true), Field::new("n", DataType::Int32, true)];
    assert_eq!(module.returns.data_type(), &DataType::Struct(fields.into()));
    assert_eq!(module.environment.lock.text(), "numpy==2.4.6\npandas==3.1.1 ; python_version > '3.9'\n");
}

#[test]
fn a_manifest_says_what_a_failure_costs() {
    let with = |value: &str| {
        load(&GOOD.replace("\n[environment]", &format!("on_error = \"{value}\"\n\n[environment]")), "numpy==2.4.6\n")
    };
    assert_eq!(with("quarantine").unwrap().on_error, OnError::Quarantine);
    assert!(with("drop").unwrap_err().contains("drop"));
}

#[test]
fn a_manifest_bounds_what_its_workers_take() {
    let with =
        |keys: &str| load(&GOOD.replace("\n[environment]", &format!("{keys}\n\n[environment]")), "numpy==2.4.6\n");
    let module = with("cpu_limit = \"10s\"\nmax_restarts = 3\nmax_failed = 0.5\nnetwork = true").unwrap();
    assert_eq!((module.cpu_limit, module.max_restarts), (Some(Duration::from_secs(10)), 3));
    assert_eq!((module.max_failed, module.network), (0.5, true));
    let module = with("").unwrap();
    assert_eq!((module.cpu_limit, module.max_restarts), (None, 64));
    assert_eq!((module.max_failed, module.network), (0.2, false));
    let refused = [
        ("cpu_limit = \"1500ms\"", "module.toml:10: `cpu_limit`: the kernel counts whole seconds, such as `10s`"),
        ("max_failed = 20.0", "module.toml:10: `max_failed`: 20 is not a share from 0 to 1"),
        ("netwrok = true", "module.toml:10: unknown key `netwrok`: did you mean `network`?"),
    ];
    for (key, expected) in refused {
        assert_eq!(with(key).unwrap_err(), expected);
    }
}

#[test]
fn the_fingerprint_follows_the_lock() {
    let fingerprint = |lock| load(GOOD, lock).unwrap().fingerprint;
    assert_eq!(fingerprint("numpy==2.4.6\n"), fingerprint("# comment\nnumpy==2.4.6\n"));
    assert_ne!(fingerprint("numpy==2.4.6\n"), fingerprint("numpy==2.4.5\n"));
}

#[test]
fn an_unknown_key_is_told_its_nearest() {
    refused("timeout", "timeot", "module.toml:9: unknown key `timeot`: did you mean `timeout`?");
    refused("python =", "pyhton =", "module.toml:12: unknown key `pyhton`: did you mean `python`?");
    refused("python =", "zzz =", "module.toml:12: unknown key `zzz`: known here are python, requirements");
    refused("name = \"jd\",", "nme = \"jd\",", "module.toml:5: unknown key `nme`: did you mean `name`?");
}

#[test]
fn a_value_that_cannot_be_used_names_its_key() {
    refused("double>", "doubel>", "module.toml:5: `type`: unknown type `doubel`: did you mean `double`?");
    refused(
        "\"2m\"",
        "\"2 weeks\"",
        "module.toml:9: `timeout`: `2 weeks` is not a time such as `500ms`, `60s` or `2m`",
    );
    refused(
        "rise_rate:rise",
        "rise_rate.rise",
        "module.toml:3: `function`: `rise_rate.rise_rate` is not of the form `package.module:function`",
    );
    refused(
        "\"rise_rate\"",
        "\"rise-rate\"",
        "module.toml:1: `name`: `rise-rate` is not a name for SQL: use letters, digits and `_`",
    );
    refused("survey = \"ztf\"", "", "module.toml:1: missing field `survey`");
}

#[test]
fn a_requirement_that_is_not_pinned_is_refused() {
    for wrong in ["numpy>=2", "numpy", "--index-url somewhere", "numpy==2.*", "-e ."] {
        let expected =
            format!("lock.txt:2: `{wrong}` is not pinned: write `name==version`, or let `redpoll module test ");
        let error = load(GOOD, &format!("pandas==3.1.1\n{wrong}\n")).unwrap_err();
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn loose_requirements_have_a_lock_beside_them_that_they_must_not_leave_behind() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let load = || Module::load(&dir.path().join(FILE_NAME));
    write(FILE_NAME, &GOOD.replace("lock.txt", "requirements.txt"));
    write("requirements.txt", "numpy>=2\n");
    write("requirements.lock", &format!("{}numpy==2.4.6\n", requirements::head("3.11", "numpy>=2\n")));
    let environment = load().unwrap().environment;
    assert_eq!(
        (environment.lock.text(), environment.requirements),
        ("numpy==2.4.6\n".into(), Some(dir.path().join("requirements.lock")))
    );
    write("requirements.txt", "numpy>=3\n");
    let error = load().unwrap_err().to_string();
    assert!(
        error.contains("requirements.lock: it was made of another requirements.txt: `redpoll module test"),
        "{error}"
    );
    // Where only the lock was brought to, it is enough; and who makes it by hand knows what of.
    std::fs::remove_file(dir.path().join("requirements.txt")).unwrap();
    assert!(load().is_ok());
    write("requirements.txt", "numpy>=3\n");
    write("requirements.lock", "numpy==3.0.0\n");
    assert!(load().is_ok());
}

#[test]
fn a_lock_may_have_hashes_and_continued_lines() {
    let text = "numpy==2.4.6 \\\n    --hash=sha256:ab12 \\\n    --hash=sha256:cd34\npyarrow==26.0.1\n";
    let lock = Lock::parse(Path::new("a.lock"), text).unwrap();
    assert_eq!(lock.text(), "numpy==2.4.6 --hash=sha256:ab12 --hash=sha256:cd34\npyarrow==26.0.1\n");
    assert_eq!(lock.packages().collect::<Vec<_>>(), [("numpy", "2.4.6"), ("pyarrow", "26.0.1")]);
    assert!(lock.is_complete());
}

#[test]
fn nested_types_are_read() {
    let parse = |text: &str| SqlType::try_from(text.to_string());
    let map = parse("map<string, list<double>>").unwrap();
    let DataType::Map(entries, _) = map.data_type() else { panic!("{map}") };
    let DataType::Struct(entries) = entries.data_type() else { panic!("{map}") };
    assert_eq!(entries[1].data_type(), &DataType::new_list(DataType::Float64, true));
    parse("map<int,struct<a: double, b: list<int>>>").unwrap();
    for wrong in ["list<int", "list<int>>", "map<int>", "struct<rate>", "list<>", ""] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_type_that_nests_without_end_is_refused() {
    let deep = |n: usize| format!("{}int{}", "list<".repeat(n), ">".repeat(n));
    assert!(load(&GOOD.replace("list<double>", &deep(32)), "").is_ok());
    let error = load(&GOOD.replace("list<double>", &deep(200_000)), "").unwrap_err();
    assert!(error.contains("nests more than 32 deep"), "{}", &error[..200]);
}

#[test]
fn no_damage_to_a_manifest_panics() {
    let mut state = 0x5eed_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let pieces =
        ["<", ">", "list<", "=", "[", "]", "{", "\"", "\\", "\n", ",", ":", "\u{e9}", "99999999999999999999", "ms"];
    let (mut good, mut refused) = (0, 0);
    for _ in 0..2_000 {
        let mut text: Vec<char> = GOOD.chars().collect();
        for _ in 0..1 + random(3) {
            let at = random(text.len());
            match random(3) {
                0 => drop(text.drain(at..(at + 1 + random(12)).min(text.len()))),
                1 => drop(text.splice(at..at, pieces[random(pieces.len())].chars())),
                _ => text[at] = char::from(32 + random(95) as u8),
            }
        }
        match load(&text.into_iter().collect::<String>(), "numpy==2.4.6\n") {
            Ok(_) => good += 1,
            Err(error) => refused += usize::from(!error.is_empty()),
        }
    }
    assert!(good > 20 && refused > 1_000, "{good} good, {refused} refused");
}

#[test]
fn an_input_without_a_type_takes_arguments_as_they_are() {
    let module =
        load(&GOOD.replace(r#"{ name = "jd", type = "list<double>" }"#, r#"{ name = "jd" }"#), "numpy==2.4.6\n")
            .unwrap();
    assert!(module.inputs[0].sql_type.is_any());
    assert_eq!(module.signature(), "jd");
    let of = |given: DataType| module.inputs[0].sql_type.of_argument(&given);
    assert_eq!(of(DataType::Utf8View), DataType::Utf8);
    assert_eq!(of(DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8))), DataType::Utf8);
    let views = DataType::Struct(vec![Field::new("stamp", DataType::BinaryView, true)].into());
    let plain = DataType::Struct(vec![Field::new("stamp", DataType::Binary, true)].into());
    assert_eq!(of(DataType::new_large_list(views, true)), DataType::new_list(plain, true));
}

#[test]
fn a_type_may_be_a_decimal_or_unsigned() {
    let of = |text: &str| SqlType::try_from(text.to_owned()).map(|sql_type| sql_type.data_type().clone());
    assert_eq!(of("decimal(12, 3)").unwrap(), DataType::Decimal128(12, 3));
    let fields = vec![Field::new("x", DataType::Decimal128(5, 2), true), Field::new("y", DataType::UInt64, true)];
    let listed = DataType::new_list(DataType::Struct(fields.into()), true);
    assert_eq!(of("list<struct<x: decimal(5,2), y: ubigint>>").unwrap(), listed);
    for wrong in ["decimal(39,1)", "decimal(3,4)", "decimal(x)", "list<any>"] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn keys_and_the_kind_of_groups_go_together() {
    let grouped = GOOD.replace("type = \"list<double>\" }", "type = \"double\", key = true }");
    let lock = "numpy==2.4.6\n";
    let with_kind = grouped.replace("function =", "kind = \"grouped\"\nfunction =");
    assert_eq!(load(&with_kind, lock).unwrap().kind, Kind::Grouped);
    let refused =
        "module.toml:5: `inputs`: kind = \"grouped\" needs inputs with `key = true`, and no other kind has them";
    assert_eq!(load(&with_kind.replace(", key = true", ""), lock).unwrap_err(), refused);
    assert!(load(&grouped, lock).unwrap_err().contains("no other kind has them"));
}

#[test]
fn optional_inputs_come_last() {
    let with =
        |inputs: &str| load(&GOOD.replace(r#"{ name = "jd", type = "list<double>" }"#, inputs), "numpy==2.4.6\n");
    let module = with(r#"{ name = "jd" }, { name = "model", type = "string", optional = true }"#).unwrap();
    assert_eq!((module.n_arguments(), module.signature().as_str()), (1..=2, "jd, [model string]"));
    let refused = with(r#"{ name = "model", optional = true }, { name = "jd" }"#).unwrap_err();
    assert!(refused.ends_with("inputs with `optional = true` come last, after one that is not"), "{refused}");
}
