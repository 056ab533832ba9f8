//! A pipeline as its user names it: a file and `--set`s; and its problems, shown beside its text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use redpoll_core::protocol::Pipeline;
use redpoll_scheduler::pipeline::{Problem, Problems};

use crate::exit::Usage;
use crate::output::paint;
use crate::values;

#[derive(Debug, Clone, clap::Args)]
pub struct PipelineArgs {
    /// The pipeline, a SQL file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Set a variable of the pipeline, as in source=./night; may be given several times
    ///
    /// Relative paths start at the working directory. In the environment: one setting a line.
    #[arg(long, env = "REDPOLL_SET", value_name = "NAME=VALUE", value_parser = values::setting, value_delimiter = '\n')]
    pub set: Vec<(String, String)>,
}

impl PipelineArgs {
    pub fn read(&self) -> Result<Pipeline> {
        read(&self.file, self.set.iter().cloned().collect())
    }
}

pub fn read(file: &Path, variables: BTreeMap<String, String>) -> Result<Pipeline> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Usage(format!("{}: the pipeline cannot be read: {error}", file.display())))?;
    let absolute = std::path::absolute(file).context("the working directory is gone")?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let working_folder = std::env::current_dir().context("the working directory is gone")?;
    Ok(Pipeline {
        text,
        file: file.display().to_string(),
        folder: folder.display().to_string(),
        working_folder: working_folder.display().to_string(),
        variables,
        filters: BTreeMap::new(),
    })
}

/// A job's name, if its user gives none: `pipelines/ztf/night.sql` is `ztf-night`.
pub fn job_name(file: &Path) -> String {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let stem = absolute.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = absolute.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = folder.into_iter().chain([stem]).collect::<Vec<_>>().join("-");
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    name.trim_start_matches('.').chars().map(plain).collect()
}

/// Every problem with the line it is in.
pub fn show(problems: &Problems, text: &str) -> String {
    let mut out = String::new();
    for problem in &problems.problems {
        let place = match problem.line {
            0 => problems.file.clone(),
            line => format!("{}:{line}:{}", problems.file, problem.column),
        };
        let _ = writeln!(out, "{place}: {}", problem.message);
        let line = problem.line.checked_sub(1).and_then(|i| text.lines().nth(i as usize));
        if let Some(line) = line.filter(|line| !line.trim().is_empty()) {
            let number = format!("{:>5}", problem.line);
            let _ = writeln!(out, "{} {line}", paint::dim(format!("{number} │")));
            if problem.column > 0 {
                let before = line.chars().take(problem.column as usize - 1);
                let blanks: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                let _ = writeln!(out, "{} {blanks}{}", paint::dim("      │"), paint::warning("^"));
            }
        }
        if !problem.remedy.is_empty() {
            let _ = writeln!(out, "    {}", problem.remedy);
        }
    }
    out
}

/// As [`show`], for what is allowed.
pub fn warn(warnings: &Problems, text: &str) -> String {
    let warning = |problem: &Problem| Problem { message: format!("warning: {}", problem.message), ..problem.clone() };
    let problems = warnings.problems.iter().map(warning).collect();
    show(&Problems { problems, ..warnings.clone() }, text)
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_job_is_named_after_its_survey_and_file() {
        assert_eq!(job_name(Path::new("pipelines/ztf/night.sql")), "ztf-night");
        assert_eq!(job_name(Path::new("/data/my pipes/réal.sql")), "my-pipes-r-al");
    }

    #[test]
    fn a_problem_points_at_its_place() {
        let problem = Problem::at((2, 7), "there is no column 'rbb'", "did you mean 'rb'?");
        let problems = Problems { file: "night.sql".into(), problems: vec![problem] };
        let expected = "\
night.sql:2:7: there is no column 'rbb'
    2 │ WHERE rbb > 0.5
      │       ^
    did you mean 'rb'?
";
        assert_eq!(show(&problems, "SELECT *\nWHERE rbb > 0.5"), expected);
    }

    #[test]
    fn a_missing_pipeline_is_wrong_use() {
        let error = read(Path::new("no/such.sql"), BTreeMap::new()).unwrap_err();
        assert_eq!(crate::exit::code(&error), 2);
        assert!(error.to_string().contains("no/such.sql"));
    }
}
