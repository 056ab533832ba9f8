//! What a new revision of a job does otherwise than the one before, in the words of whoever wrote the pipeline.
//!
//! Equal changes of several tables are told once, with the tables' names: a cut in a view changes every table below it.

use std::collections::{BTreeMap, BTreeSet};

use redpoll_core::revision::{Change, Insert, Outline, Reads, Rule};
use redpoll_core::sink::SinkSpec;

/// Names that one line lists.
const LISTED: usize = 6;

/// Why a job cannot go on with a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it reads {new}, the job has read {old}: positions in one say nothing of the other; give this pipeline another --name"
)]
pub struct OtherSource {
    old: String,
    new: String,
}

/// What is deployed beside a pipeline's own text: whoever changes it means the rows that differ by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meant {
    /// Names of modules.
    pub modules: BTreeSet<String>,
    /// Tables of filters.
    pub tables: BTreeSet<String>,
}

/// All that `new` does otherwise than `old`, in the order of a pipeline; nothing if rows cannot differ.
pub fn changes(old: &Outline, new: &Outline, meant: &Meant) -> Result<Vec<Change>, OtherSource> {
    let mut changes = Changes { old, new, meant, found: Vec::new() };
    changes.source()?;
    changes.fields();
    changes.modules();
    changes.tables();
    for sink in &new.sinks {
        if old.sinks.iter().any(|before| before.name == sink.name) {
            changes.rows(&sink.name);
        }
    }
    changes.names();
    Ok(changes.found)
}

struct Changes<'a> {
    old: &'a Outline,
    new: &'a Outline,
    meant: &'a Meant,
    found: Vec<Change>,
}

impl Changes<'_> {
    /// Adds a change that alters rows of a table, or the table to the same change of others.
    fn alters(&mut self, what: String, table: &str) {
        match self.found.iter_mut().find(|change| change.what == what) {
            Some(change) if change.tables.iter().any(|known| known == table) => {}
            Some(change) => {
                change.tables.push(table.to_owned());
                change.meant &= self.meant.tables.contains(table);
            }
            None => {
                let meant = self.meant.tables.contains(table);
                self.found.push(Change { what, tables: vec![table.to_owned()], asks: true, meant });
            }
        }
    }

    fn asks(&mut self, what: String) {
        self.found.push(Change { what, asks: true, ..Change::default() });
    }

    /// Of a table as a whole.
    fn asks_of_table(&mut self, table: &str, what: String) {
        let meant = self.meant.tables.contains(table);
        self.found.push(Change { what, asks: true, meant, ..Change::default() });
    }

    fn tells(&mut self, what: String) {
        self.found.push(Change { what, ..Change::default() });
    }

    fn source(&mut self) -> Result<(), OtherSource> {
        let (old, new) = (&self.old.reads, &self.new.reads);
        if !is_same(old, new) {
            return Err(OtherSource { old: place(old), new: place(new) });
        }
        let (before, after) = (set(&old.places), set(&new.places));
        let gone: Vec<_> = before.difference(&after).copied().collect();
        let come: Vec<_> = after.difference(&before).copied().collect();
        let table = new.table.clone();
        if is_pattern(old) || is_pattern(new) {
            if before != after {
                self.asks(format!("{table}: reads the topics {}, not {}", new.places.join(","), old.places.join(",")));
            }
        } else {
            if !come.is_empty() {
                self.asks(format!("{table}: reads {} too", come.join(", ")));
            }
            if !gone.is_empty() {
                self.asks(format!("{table}: reads no more of {}", gone.join(", ")));
            }
        }
        if !old.brokers.is_empty() && set(&old.brokers).is_disjoint(&set(&new.brokers)) {
            let (from, to) = (old.brokers.join(","), new.brokers.join(","));
            self.asks(format!("{table}: reads from the brokers {to}, not {from}; they must hold the same topics, with the same offsets"));
        }
        for text in options(&old.options, &new.options) {
            self.asks(format!("{table}: {text}"));
        }
        Ok(())
    }

    fn fields(&mut self) {
        let (old, new, table) = (&self.old.fields, &self.new.fields, &self.new.reads.table);
        let come: Vec<&str> = new.keys().filter(|path| !old.contains_key(*path)).map(String::as_str).collect();
        let gone: Vec<&str> = old.keys().filter(|path| !new.contains_key(*path)).map(String::as_str).collect();
        let others = old.iter().filter_map(|(path, before)| {
            let after = new.get(path).filter(|after| *after != before)?;
            Some(format!("{table}: field {path} is read as {after}, not {before}"))
        });
        let others: Vec<String> = others.collect();
        if !come.is_empty() {
            // As for alerts that grow while a job runs: nobody is asked then either.
            self.tells(format!("{table}: new fields {}", listed(&come)));
        }
        if !gone.is_empty() {
            self.asks(format!("{table}: the fields {} are not read any more", listed(&gone)));
        }
        others.into_iter().for_each(|other| self.asks(other));
    }

    fn modules(&mut self) {
        for (name, lock) in &self.new.modules {
            let Some(before) = self.old.modules.get(name).filter(|before| *before != lock) else { continue };
            let what = format!("module {name} has changed (lock {}, before {})", short(lock), short(before));
            let call = format!("{name}(");
            let tables: BTreeSet<&str> = self.new.sinks.iter().map(|sink| sink.name.as_str()).collect();
            let tables: Vec<String> =
                tables.into_iter().filter(|table| self.new.uses(table, &call)).map(str::to_owned).collect();
            let meant = self.meant.modules.contains(name);
            self.found.push(Change { what, tables, asks: true, meant });
        }
    }

    fn tables(&mut self) {
        for sink in &self.new.sinks {
            match self.old.sinks.iter().find(|before| before.name == sink.name) {
                None => {
                    self.asks_of_table(&sink.name, format!("table {} is new: it has rows from now on", sink.name));
                }
                Some(before) => {
                    let changes = place_of_table(before, sink);
                    changes.into_iter().for_each(|what| self.asks_of_table(&sink.name, what));
                }
            }
        }
        for sink in &self.old.sinks {
            if !self.new.sinks.iter().any(|after| after.name == sink.name) {
                let what = format!("table {} is not written any more; the rows that it has stay", sink.name);
                self.asks_of_table(&sink.name, what);
            }
        }
    }

    /// What differs for the rows of a table that both have.
    fn rows(&mut self, table: &str) {
        let of = |outline: &Outline| outline.inserts.iter().filter(|insert| insert.sink == table).cloned().collect();
        let (old, new): (Vec<Insert>, Vec<Insert>) = (of(self.old), of(self.new));
        if old.len() != new.len() {
            return self.alters(format!("it is written by {} INSERTs, not {}", new.len(), old.len()), table);
        }
        for (before, after) in old.iter().zip(&new) {
            let texts = cuts(&self.old.cuts(before), &self.new.cuts(after));
            texts.into_iter().for_each(|what| self.alters(what, table));
            if before.before != after.before {
                self.alters("lists are taken apart otherwise".to_owned(), table);
            }
            self.columns(before, after);
        }
    }

    fn columns(&mut self, old: &Insert, new: &Insert) {
        let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (old.columns.iter().cloned().collect(), new.columns.iter().cloned().collect());
        for (name, means) in &after {
            match before.get(name) {
                None if name == means && !self.old.has_field(name) => {}
                None => self.alters(format!("column {name} is new"), &new.sink),
                Some(meant) if meant != means => {
                    self.alters(format!("column {name} is computed otherwise"), &new.sink);
                }
                Some(_) => {}
            }
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            self.alters(format!("column {name} is gone"), &new.sink);
        }
    }

    /// Views that are called otherwise or stand elsewhere: the ledger shows it, no row does.
    fn names(&mut self) {
        let rules = |outline: &Outline| -> Vec<(String, Vec<String>)> {
            let texts = |rules: &[Rule]| rules.iter().map(|rule| rule.means.clone()).collect();
            outline.views.iter().map(|view| (view.name.clone(), texts(&view.rules))).collect()
        };
        if self.found.is_empty() && rules(self.old) != rules(self.new) {
            self.tells(
                "the cuts are the same, but stand otherwise; the ledger counts them in their new order".to_owned(),
            );
        }
    }
}

/// Conditions that rows of a table have to meet, each after the words for where it stands.
type Cuts = Vec<(String, Rule)>;

trait Look {
    fn cuts(&self, insert: &Insert) -> Cuts;
    fn uses(&self, table: &str, call: &str) -> bool;
    fn has_field(&self, name: &str) -> bool;
}

impl Look for Outline {
    /// From the source to the table.
    fn cuts(&self, insert: &Insert) -> Cuts {
        let (mut cuts, mut over) = (Vec::new(), insert.over.as_ref());
        while let Some(view) = over.and_then(|name| self.views.iter().find(|view| view.name == *name)) {
            let named = view.rules.iter().map(|rule| (format!("view {}: cut", view.name), rule.clone()));
            cuts.splice(0..0, named);
            over = view.over.as_ref();
        }
        cuts.extend(insert.rules.iter().map(|rule| ("its own cut".to_owned(), rule.clone())));
        cuts
    }

    fn uses(&self, table: &str, call: &str) -> bool {
        self.inserts.iter().filter(|insert| insert.sink == table).any(|insert| {
            let columns = insert.columns.iter().map(|(_, means)| means);
            let rules = self.cuts(insert);
            columns
                .chain(&insert.before)
                .chain(rules.iter().map(|(_, rule)| &rule.means))
                .any(|text| text.contains(call))
        })
    }

    fn has_field(&self, name: &str) -> bool {
        let within = format!("{name}.");
        self.fields.keys().any(|path| path == name || path.starts_with(&within))
    }
}

/// What became of the conditions: one that is gone and one that has come in the same place are one change.
fn cuts(old: &Cuts, new: &Cuts) -> Vec<String> {
    let lacks = |cuts: &Cuts, rule: &Rule| !cuts.iter().any(|(_, other)| other.means == rule.means);
    let gone: Vec<_> = old.iter().filter(|(_, rule)| lacks(new, rule)).collect();
    let mut come: Vec<_> = new.iter().filter(|(_, rule)| lacks(old, rule)).collect();
    let mut texts = Vec::new();
    for (place, rule) in gone {
        match come.iter().position(|(other, _)| other == place) {
            Some(i) => texts.push(format!("{place} `{}` becomes `{}`", rule.text, come.remove(i).1.text)),
            None => texts.push(format!("{place} `{}` is gone", rule.text)),
        }
    }
    texts.extend(come.into_iter().map(|(place, rule)| format!("{place} `{}` is new", rule.text)));
    texts
}

fn place_of_table(old: &SinkSpec, new: &SinkSpec) -> Vec<String> {
    let mut texts = Vec::new();
    let name = &new.name;
    if old.kind != new.kind || old.url != new.url {
        texts.push(format!("table {name} is written to {}, not {}", new.url, old.url));
    }
    if old.partition_by != new.partition_by {
        let by = |columns: &[String]| if columns.is_empty() { "nothing".to_owned() } else { columns.join(", ") };
        texts.push(format!("table {name} is partitioned by {}, not {}", by(&new.partition_by), by(&old.partition_by)));
    }
    texts.extend(options(&old.options, &new.options).into_iter().map(|text| format!("table {name}: {text}")));
    texts
}

fn options(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |of: Option<&String>| of.map_or("its default".to_owned(), |value| format!("'{value}'"));
    let differ = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    differ.map(|name| format!("option '{name}' is {}, not {}", value(new.get(name)), value(old.get(name)))).collect()
}

fn set(names: &[String]) -> BTreeSet<&str> {
    names.iter().map(String::as_str).collect()
}

fn is_pattern(reads: &Reads) -> bool {
    reads.places.iter().any(|place| place.starts_with('^'))
}

/// Whether positions that a job has taken are positions there too.
fn is_same(old: &Reads, new: &Reads) -> bool {
    let kafka = |reads: &Reads| !reads.brokers.is_empty();
    match (kafka(old), kafka(new)) {
        (true, true) => is_pattern(old) || is_pattern(new) || !set(&old.places).is_disjoint(&set(&new.places)),
        (false, false) => old.places == new.places,
        _ => false,
    }
}

fn place(reads: &Reads) -> String {
    match reads.brokers.is_empty() {
        true => reads.places.join(","),
        false => format!("kafka://{}/{}", reads.brokers.join(","), reads.places.join(",")),
    }
}

fn listed(names: &[&str]) -> String {
    match names.len() {
        0..=LISTED => names.join(", "),
        n => format!("{} and {} more", names[..LISTED].join(", "), n - LISTED),
    }
}

fn short(lock: &str) -> &str {
    lock.get(..8).unwrap_or(lock)
}

#[cfg(test)]
mod tests;
