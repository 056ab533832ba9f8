//! Views and `INSERT`s as one chain: what each view keeps is a mask, what it computes is an expression over the
//! source's columns, and what a science module computes, or a catalogue has, is a column that an `Enrich` or `Match` step
//! adds.

use std::collections::BTreeMap;

use datafusion::common::plan_err;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use redpoll_core::steps::mask_column;

use super::crossmatch;
use super::flatten::{Level, Rows, named, replace};
use super::nulls::Condition;

/// A step between `Decode` and `FanOut`, its expressions over the columns before it.
#[derive(Debug, Clone)]
pub(super) enum ChainStep {
    Cut { view: String, from: String, mask: Option<String>, rules: Vec<(String, Expr)> },
    Enrich { module: String, column: String, mask: Option<String>, arguments: Vec<Expr> },
    Match { call: Box<crossmatch::Call>, column: String, mask: Option<String> },
}

impl ChainStep {
    /// The science module that it calls.
    pub fn module(&self) -> Option<&String> {
        match self {
            Self::Cut { .. } | Self::Match { .. } => None,
            Self::Enrich { module, .. } => Some(module),
        }
    }

    /// The column that it adds for a call.
    fn column_of(&self, call: &Expr, mask: Option<&str>) -> Option<&String> {
        match (self, call) {
            (Self::Enrich { module, mask: on, arguments, column }, Expr::ScalarFunction(call)) => {
                (module == call.func.name() && on.as_deref() == mask && *arguments == call.args).then_some(column)
            }
            (Self::Match { call: known, mask: on, column }, call) => {
                (on.as_deref() == mask && crossmatch::call(call).is_some_and(|call| **known == call)).then_some(column)
            }
            _ => None,
        }
    }
}

/// What one `INSERT` reads: a mask, then levels over the chain's columns.
#[derive(Debug, Clone)]
pub(super) struct Tap {
    pub sink: String,
    /// The table or view that it selects from.
    pub base: String,
    pub mask: Option<String>,
    pub levels: Vec<Level>,
    /// The conjuncts of its own `WHERE` as written.
    pub texts: Vec<String>,
}

/// A table that rows can be read from: the source, or a view of it.
#[derive(Debug, Clone)]
struct Relation {
    /// The nearest view that cuts, by its mask column.
    mask: Option<String>,
    /// What each column is, over the chain's columns.
    columns: Vec<(String, Expr)>,
    /// Levels after a list was taken apart: such a view is no mask, its rows exist only in the sinks.
    expanded: Vec<Level>,
}

pub(super) struct Chain<'a> {
    /// Names of the science modules.
    modules: &'a dyn Fn(&str) -> bool,
    simplify: &'a dyn Fn(Expr) -> Result<Expr>,
    relations: BTreeMap<String, Relation>,
    pub steps: Vec<ChainStep>,
    pub taps: Vec<Tap>,
    /// Every conjunct of a `WHERE` that decides about alerts.
    pub conditions: Vec<Condition>,
}

/// Conjuncts as they were written, in order, each with its place.
pub(super) type Written = Vec<(String, (u64, u64))>;

impl<'a> Chain<'a> {
    pub fn new(
        source: &str,
        columns: impl IntoIterator<Item = String>,
        modules: &'a dyn Fn(&str) -> bool,
        simplify: &'a dyn Fn(Expr) -> Result<Expr>,
    ) -> Self {
        let columns = columns.into_iter().map(|name| (name.clone(), named(&name))).collect();
        let source_relation = Relation { mask: None, columns, expanded: Vec::new() };
        Self {
            modules,
            simplify,
            relations: [(source.to_owned(), source_relation)].into(),
            steps: vec![],
            taps: vec![],
            conditions: vec![],
        }
    }

    /// Adds a view. `texts` are its conjuncts as written, in order; `place` is that of the whole.
    pub fn view(&mut self, name: &str, rows: Rows, texts: &Written, place: (u64, u64)) -> Result<()> {
        let Some(base) = self.relations.get(&rows.base).cloned() else { return Ok(()) };
        let expands = rows.levels.iter().any(|level| !level.unnest.is_empty()) || !base.expanded.is_empty();
        if expands {
            let (mask, levels) = self.levels(&base, rows, texts, place)?;
            let columns = levels.last().map(|level| level.columns.clone()).unwrap_or_default();
            let columns = columns.into_iter().map(|(name, _)| (name.clone(), named(&name))).collect();
            self.relations.insert(name.to_owned(), Relation { mask, columns, expanded: levels });
            return Ok(());
        }
        let Some(level) = rows.levels.into_iter().next_back() else { return Ok(()) };
        let mut rules = Vec::new();
        // Conjuncts of an inner SELECT come too; then the texts of the outer one do not say which is which.
        let texts = if texts.len() == level.conjuncts.len() { &texts[..] } else { &[] };
        for (i, conjunct) in level.conjuncts.into_iter().enumerate() {
            let (text, place) = texts.get(i).cloned().unwrap_or_else(|| (conjunct.to_string(), place));
            let rule = self.lift(replace(conjunct, &base.columns), base.mask.as_deref())?;
            self.conditions.push(Condition { place, text: text.clone(), rule: rule.clone() });
            rules.push((text, rule));
        }
        let mut mask = base.mask.clone();
        if !rules.is_empty() {
            self.steps.push(ChainStep::Cut { view: name.to_owned(), from: rows.base, mask, rules });
            mask = Some(mask_column(name));
        }
        let mut columns = Vec::new();
        for (column, expr) in level.columns {
            columns.push((column, self.lift(replace(expr, &base.columns), mask.as_deref())?));
        }
        self.relations.insert(name.to_owned(), Relation { mask, columns, expanded: Vec::new() });
        Ok(())
    }

    /// Adds an `INSERT`; see [`Chain::view`].
    pub fn insert(&mut self, sink: &str, rows: Rows, texts: &Written, place: (u64, u64)) -> Result<()> {
        let Some(base) = self.relations.get(&rows.base).cloned() else { return Ok(()) };
        let name = rows.base.clone();
        let (mask, levels) = self.levels(&base, rows, texts, place)?;
        let texts = texts.iter().map(|(text, _)| text.clone()).collect();
        self.taps.push(Tap { sink: sink.to_owned(), base: name, mask, levels, texts });
        Ok(())
    }

    /// Levels over the chain's columns.
    fn levels(
        &mut self,
        base: &Relation,
        rows: Rows,
        texts: &Written,
        place: (u64, u64),
    ) -> Result<(Option<String>, Vec<Level>)> {
        let mut levels = base.expanded.clone();
        for (i, mut level) in rows.levels.into_iter().enumerate() {
            let first = i == 0 && base.expanded.is_empty();
            for expr in level.conjuncts.iter_mut().chain(level.columns.iter_mut().map(|(_, expr)| expr)) {
                if first {
                    *expr = self.lift(replace(expr.clone(), &base.columns), base.mask.as_deref())?;
                } else {
                    self.refuse_modules(expr)?;
                }
            }
            if first {
                let texts = if texts.len() == level.conjuncts.len() { &texts[..] } else { &[] };
                for (i, rule) in level.conjuncts.iter().enumerate() {
                    let (text, place) = texts.get(i).cloned().unwrap_or_else(|| (rule.to_string(), place));
                    self.conditions.push(Condition { place, text, rule: rule.clone() });
                }
            }
            levels.push(level);
        }
        Ok((base.mask.clone(), levels))
    }

    /// After `unnest` a row is no alert, and modules and catalogues are asked for alerts.
    fn refuse_modules(&self, expr: &Expr) -> Result<()> {
        let calls =
            |expr: &Expr, is: &dyn Fn(&str) -> bool| matches!(expr, Expr::ScalarFunction(call) if is(call.func.name()));
        if expr.exists(|expr| Ok(calls(expr, self.modules)))? {
            return plan_err!("a science module is called after unnest; call it in a view before, and use its column");
        }
        match expr.exists(|expr| Ok(calls(expr, &crossmatch::is_crossmatch)))? {
            true => plan_err!("a catalogue is asked after unnest; ask it in a view before, and use its column"),
            false => Ok(()),
        }
    }

    /// Replaces calls of modules and catalogues by the columns of `Enrich` and `Match` steps. The same call on the same
    /// rows is one step.
    fn lift(&mut self, expr: Expr, mask: Option<&str>) -> Result<Expr> {
        let modules = self.modules;
        let steps = &mut self.steps;
        let lifted = (self.simplify)(expr)?.transform_up(|expr| {
            let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
            let looked_up = crossmatch::call(&expr);
            if !modules(call.func.name()) && looked_up.is_none() {
                return Ok(Transformed::no(expr));
            }
            if let Some(column) = steps.iter().find_map(|step| step.column_of(&expr, mask)) {
                return Ok(Transformed::yes(named(column)));
            }
            let n = steps.iter().filter(|step| !matches!(step, ChainStep::Cut { .. })).count();
            let mask = mask.map(str::to_owned);
            let (column, step) = match looked_up {
                Some(call) => {
                    let column = format!("_match_{n}");
                    (column.clone(), ChainStep::Match { call: Box::new(call), column, mask })
                }
                None => {
                    let (module, arguments, column) =
                        (call.func.name().to_owned(), call.args.clone(), format!("_module_{n}"));
                    (column.clone(), ChainStep::Enrich { module, column, mask, arguments })
                }
            };
            steps.push(step);
            Ok(Transformed::yes(named(&column)))
        })?;
        Ok(lifted.data)
    }
}
