//! Texts that nobody meant: every one is compiled or refused, none ends the process.

use super::compiled;

const GOOD: &str = "-- redpoll: limit = 20\n\
    CREATE VIEW good AS SELECT *, candidate.jd + 0.5 AS mjd FROM alerts\n\
      WHERE candidate.rb > 0.5 AND (candidate.fid = 1 OR candidate.fid BETWEEN 2 AND 3) AND candidate.magpsf < ${limit};\n\
    INSERT INTO copy SELECT objectId, candid, CASE WHEN candidate.rb > 0.9 THEN 'real' ELSE 'b''ogus' END AS kind,\n\
      array_max(list_field(prv_candidates, 'magpsf')) AS faintest FROM good WHERE objectId LIKE 'ZTF%';";

const PIECES: [&str; 24] = [
    "(",
    ")",
    "'",
    "\"",
    ";",
    "--",
    "/*",
    "*/",
    "${",
    "}",
    ",",
    ".",
    "*",
    "::",
    "$$",
    "\\",
    "NULL",
    "SELECT",
    " FROM ",
    "CAST(",
    "\u{e9}",
    "1e999",
    "9223372036854775808",
    "[",
];

#[tokio::test]
async fn no_damage_to_a_pipeline_panics() {
    let mut state = 0x5eed_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    assert!(compiled(GOOD, "declared").await.is_ok());
    let mut refused = 0;
    for _ in 0..400 {
        let mut text: Vec<char> = GOOD.chars().collect();
        for _ in 0..1 + random(3) {
            let at = random(text.len());
            match random(4) {
                0 => drop(text.drain(at..(at + 1 + random(12)).min(text.len()))),
                1 => drop(text.splice(at..at, PIECES[random(PIECES.len())].chars())),
                2 => text[at] = char::from(32 + random(95) as u8),
                _ => {
                    let from = random(text.len());
                    let piece: Vec<char> = text[from..(from + 30).min(text.len())].to_vec();
                    drop(text.splice(at..at, piece));
                }
            }
        }
        if let Err(problems) = compiled(&text.into_iter().collect::<String>(), "declared").await {
            assert!(problems.to_string().starts_with("p.sql:"), "{problems}");
            refused += 1;
        }
    }
    assert!(refused > 200, "{refused} refused");
}

/// On the stack of a thread that serves requests.
fn check_deep(where_text: String, expected: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let text = format!("INSERT INTO copy SELECT candid FROM alerts WHERE {where_text};");
    let ended = runtime.block_on(runtime.spawn(async move { compiled(&text, "declared").await.map(drop) })).unwrap();
    let shown = ended.map_or_else(|problems| problems.to_string(), |()| "compiles".to_owned());
    assert!(shown.contains(expected), "{}", shown.chars().take(300).collect::<String>());
}

#[test]
fn an_expression_that_nests_without_end_is_refused() {
    check_deep(format!("{}candid = 1{}", "(".repeat(100_000), ")".repeat(100_000)), "p.sql:");
    check_deep(format!("{} candid = 1", "NOT ".repeat(100_000)), "p.sql:");
    check_deep(format!("{}1{} = candid", "abs(".repeat(100_000), ")".repeat(100_000)), "p.sql:");
}

#[test]
fn a_thousand_conditions_compile_and_far_too_many_are_refused() {
    let conditions = |n: usize, word: &str| (0..n).map(|i| format!("candid <> {i}")).collect::<Vec<_>>().join(word);
    check_deep(conditions(1_000, " AND "), "compiles");
    check_deep(conditions(1_000, " OR "), "compiles");
    check_deep(conditions(50_000, " AND "), "p.sql:");
    check_deep(format!("candid = 0{}", " + 1".repeat(50_000)), "p.sql:");
}
