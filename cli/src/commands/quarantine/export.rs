//! `redpoll quarantine export`: the bytes of records as files, and an index that says what they are.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::record::Record;
use super::{EXAMPLES, Of, read, select};
use crate::args::ListFormat;
use crate::exit::Usage;
use crate::output;
use crate::values::counted;

/// Name of the index: one JSON object a line, one line for each item.
const INDEX: &str = "index.jsonl";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which records, as the list names them; by default all
    pub records: Vec<String>,
    /// Folder to write to; made if it is not there
    #[arg(long, env = "REDPOLL_TO", value_name = "FOLDER")]
    pub to: PathBuf,
    #[command(flatten)]
    pub of: Of,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
}

pub async fn run(args: Args) -> Result<()> {
    let all = read(&args.of).await?;
    let chosen = match args.records.is_empty() {
        true => all.iter().collect(),
        false => select(&all, &args.records)?,
    };
    export(&chosen, &args.to)?;
    let (n, index) = (chosen.len() as u64, args.to.join(INDEX));
    match args.format {
        ListFormat::Json => output::line(json!({ "items": n, "index": index }).to_string())?,
        ListFormat::Table => {
            output::line(format!("{} in {}, listed in {INDEX}", counted(n, "item"), args.to.display()))?
        }
    }
    Ok(())
}

/// The index comes last: where it is, everything is.
fn export(records: &[&Record], to: &Path) -> Result<()> {
    let index = to.join(INDEX);
    if index.exists() {
        let message = format!("{} holds an export already; give --to another folder", to.display());
        return Err(Usage(message).into());
    }
    fs::create_dir_all(to).with_context(|| format!("{}: cannot be made", to.display()))?;
    let mut lines = Vec::new();
    for record in records {
        serde_json::to_writer(&mut lines, &write(record, to)?)?;
        lines.push(b'\n');
    }
    let mut file = tempfile_in(to)?;
    file.1.write_all(&lines).and_then(|()| file.1.sync_all()).context("the index cannot be written")?;
    fs::rename(&file.0, &index).with_context(|| format!("{}: cannot be written", index.display()))
}

fn tempfile_in(folder: &Path) -> Result<(PathBuf, fs::File)> {
    let path = folder.join(format!(".{INDEX}"));
    let file = fs::File::create(&path).with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok((path, file))
}

/// Writes the bytes of an item; its line of the index comes back.
fn write(record: &Record, to: &Path) -> Result<Value> {
    let kind = if record.value.starts_with(b"Obj\x01") { "avro" } else { "bin" };
    let item = record.item;
    let name = format!("{}-{:06}-{:03}-{:06}", record.job, item.epoch.0, item.split.0, item.row);
    let put = |name: String, bytes: &[u8]| {
        fs::write(to.join(&name), bytes).with_context(|| format!("{}: cannot be written", to.join(&name).display()))?;
        Ok::<_, anyhow::Error>(name)
    };
    let mut line = record.json();
    line["file"] = put(format!("{name}.{kind}"), &record.value)?.into();
    line["key_file"] = record.key.as_ref().map(|key| put(format!("{name}.key"), key)).transpose()?.into();
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn an_export_has_the_bytes_of_each_item_and_says_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("set aside");
        let (torn, other) = (record("it ends early"), Record { key: Some(b"k".to_vec()), ..record("other") });
        let other = Record {
            value: b"\0\0\0\0\x01".to_vec(),
            item: redpoll_core::quarantine::Item { row: 1, ..other.item },
            ..other
        };
        export(&[&torn, &other], &to).unwrap();
        let index = fs::read_to_string(to.join(INDEX)).unwrap();
        let lines: Vec<Value> = index.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["error"], &lines[0]["offset"]), (&json!("it ends early"), &json!(17)));
        let names: Vec<&str> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
        assert_eq!(names, ["ztf-night-000000-000-000000.avro", "ztf-night-000000-000-000001.bin"]);
        assert_eq!(fs::read(to.join(names[0])).unwrap(), torn.value);
        assert_eq!(fs::read(to.join(lines[1]["key_file"].as_str().unwrap())).unwrap(), b"k");
        assert!(export(&[&torn], &to).unwrap_err().to_string().contains("another folder"));
    }
}
