//! `redpoll module new`: a folder that holds a working module, its tests, its docs and a pipeline that calls it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::exit::Usage;
use crate::output::{self, paint};
use crate::shipped;

const EXAMPLES: &str = "\
Examples:
  redpoll module new my_score --survey lsst
  redpoll module new my_score --survey ztf --kind arrow
  redpoll module new my_score --survey ztf --kind row --to ~/modules

What it makes runs as it is: change the function, its inputs and its docs. The next command is printed.";

/// The name in the templates, which the new module's takes the place of.
const TEMPLATE: &str = "my_score";
/// The version of Python in the templates.
const TEMPLATE_PYTHON: &str = "python = \"3.11\"";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Name of the module, and of the function in SQL: letters, digits and `_`
    pub name: String,
    /// Whose alerts it reads: one of the folders below pipelines/
    #[arg(long, env = "REDPOLL_SURVEY", value_name = "SURVEY")]
    pub survey: String,
    /// How its function is called
    #[arg(long, env = "REDPOLL_KIND", value_enum, default_value = "pandas")]
    pub kind: Kind,
    /// Folder that the module's folder is made in
    #[arg(long, env = "REDPOLL_TO", default_value = ".", value_name = "FOLDER")]
    pub to: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// With a pandas Series for each input
    Pandas,
    /// With a pyarrow array for each input: the fastest
    Arrow,
    /// Once for each alert, with plain Python values
    Row,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Pandas => "pandas",
            Kind::Arrow => "arrow",
            Kind::Row => "row",
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let made = make(args, &python())?;
    let shown = made.display();
    output::line(format!("{} {shown}: a module for {}, which runs as it is", paint::good("✓"), args.survey))?;
    for (file, what) in [
        (format!("{}.py", args.name), "the function"),
        ("module.toml".to_owned(), "its inputs, result and environment"),
        ("requirements.txt".to_owned(), "the packages it imports"),
        ("tests".to_owned(), "its tests"),
        (format!("samples/{}.sql", args.name), "a pipeline that calls it"),
    ] {
        output::line(format!("  {file:<24} {what}"))?;
    }
    Ok(output::line(format!("next: {}", paint::command(format!("redpoll module test {shown}"))))?)
}

fn make(args: &Args, python: &str) -> Result<PathBuf> {
    check_name(&args.name)?;
    let template = template(&args.survey)?;
    let folder = args.to.join(&args.name);
    if folder.exists() {
        bail!("{} is there already: choose another name, or another folder with --to", folder.display());
    }
    copy(&template, &folder, args, python)?;
    Ok(folder)
}

/// It names a Python file too.
fn check_name(name: &str) -> Result<(), Usage> {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match plain && !name.starts_with(|c: char| c.is_ascii_digit()) {
        true => Ok(()),
        false => Err(Usage(format!("'{name}' is no name of a module: use small letters, digits and '_'"))),
    }
}

/// The survey's own template: a survey is data, and so is what its modules begin as.
fn template(survey: &str) -> Result<PathBuf> {
    if let Some(template) = shipped::find(&format!("pipelines/{survey}/module")) {
        return Ok(template);
    }
    let root =
        shipped::find("pipelines").context("the pipelines that come with redpoll are not installed beside it")?;
    let mut known: Vec<String> = fs::read_dir(&root)?
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.join("module").is_dir()))
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    known.sort();
    Err(Usage(format!("--survey {survey}: there is no template for it; there is: {}", known.join(", "))).into())
}

fn copy(from: &Path, to: &Path, args: &Args, python: &str) -> Result<()> {
    let failed = |path: &Path| format!("{} cannot be written", path.display());
    fs::create_dir_all(to).with_context(|| failed(to))?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(name) = target_name(name, args.kind) else { continue };
        let target = to.join(name.replace(TEMPLATE, &args.name));
        match path.is_dir() {
            true => copy(&path, &target, args, python)?,
            false => {
                let text = fs::read_to_string(&path)?;
                fs::write(&target, written(&text, args, python)).with_context(|| failed(&target))?;
            }
        }
    }
    Ok(())
}

/// Functions of the other kinds, and what Python compiled, are left out; `my_score.row.py` becomes `my_score.py`.
fn target_name(name: &str, kind: Kind) -> Option<String> {
    let kinds = [Kind::Pandas, Kind::Arrow, Kind::Row];
    let of = kinds.into_iter().find(|kind| name.ends_with(&format!(".{}.py", kind.name())));
    match of {
        _ if name.starts_with(['.', '_']) => None,
        Some(of) if of != kind => None,
        Some(of) => Some(name.replace(&format!(".{}.py", of.name()), ".py")),
        None => Some(name.to_owned()),
    }
}

fn written(text: &str, args: &Args, python: &str) -> String {
    let folder = args.to.join(&args.name).display().to_string();
    text.replace(TEMPLATE_PYTHON, &format!("python = \"{python}\""))
        .replace("kind = \"pandas\"", &format!("kind = \"{}\"", args.kind.name()))
        .replace(&format!("run {TEMPLATE}/"), &format!("run {folder}/"))
        .replace(TEMPLATE, &args.name)
}

/// The version of this machine's Python, which is there to build an environment with.
fn python() -> String {
    let asked = Command::new("python3").args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).output();
    let version = asked.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let version = version.and_then(|bytes| String::from_utf8(bytes).ok()).map(|text| text.trim().to_owned());
    version.filter(|version| !version.is_empty()).unwrap_or_else(|| "3.11".to_owned())
}

#[cfg(test)]
mod tests {
    use redpoll_udfs::manifest;

    use super::*;

    fn args(name: &str, survey: &str, kind: Kind, to: &Path) -> Args {
        Args { name: name.into(), survey: survey.into(), kind, to: to.into() }
    }

    #[test]
    fn every_survey_and_kind_gives_a_module_of_its_name() {
        for (survey, kind) in [("ztf", Kind::Pandas), ("lsst", Kind::Arrow), ("ztf", Kind::Row)] {
            let dir = tempfile::tempdir().unwrap();
            let folder = make(&args("glow", survey, kind, dir.path()), "3.12").unwrap();
            let manifest = fs::read_to_string(folder.join("module.toml")).unwrap();
            for line in ["name = \"glow\"", "function = \"glow:glow\"", "python = \"3.12\""] {
                assert!(manifest.contains(line), "{manifest}");
            }
            assert!(manifest.contains(&format!("kind = \"{}\"", kind.name())), "{manifest}");
            let files = manifest::files(&folder).unwrap();
            let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
            assert_eq!(names, ["glow.py", "module.toml", "requirements.txt"]);
            assert!(folder.join("tests/test_glow.py").is_file() && folder.join("samples/glow.sql").is_file());
            assert!(fs::read_to_string(folder.join("glow.py")).unwrap().contains("def glow("));
        }
    }

    #[test]
    fn what_cannot_be_made_is_told_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |name: &str, survey: &str| {
            make(&args(name, survey, Kind::Pandas, dir.path()), "3.11").unwrap_err().to_string()
        };
        assert!(refused("my-score", "ztf").contains("use small letters"));
        assert!(refused("a", "sdss").ends_with("there is: lsst, ztf"), "{}", refused("a", "sdss"));
        fs::create_dir(dir.path().join("a")).unwrap();
        assert!(refused("a", "ztf").contains("is there already"));
    }
}
