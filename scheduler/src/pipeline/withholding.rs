//! Which modules keep alerts from which `INSERT`s: those that set alerts aside where they fail, and whose value the rows
//! of the `INSERT` depend on, as a column, in a `WHERE` or through another module's arguments.

use std::collections::BTreeMap;

use datafusion::logical_expr::Expr;
use redpoll_core::steps::{Call, Withheld, failed_column, mask_column};

use super::chain::Tap;

/// What each column of the chain depends on, as far as the chain is known.
#[derive(Debug, Default)]
pub(super) struct Withholding {
    of_column: BTreeMap<String, Vec<Withheld>>,
}

impl Withholding {
    /// Adds a module's column.
    pub fn enrich(&mut self, call: &Call, mask: Option<&str>, arguments: &[Expr]) {
        let mut by = self.of(arguments, mask);
        if call.sets_aside {
            by.push(Withheld { module: call.version.module.clone(), column: failed_column(&call.column) });
        }
        self.of_column.insert(call.column.clone(), by);
    }

    /// Adds a view's mask. What comes back keeps rows out of the view: those out of the view that it reads are out
    /// already.
    pub fn cut(&mut self, view: &str, mask: Option<&str>, rules: &[(String, Expr)]) -> Vec<String> {
        let rules: Vec<Expr> = rules.iter().map(|(_, rule)| rule.clone()).collect();
        self.of_column.insert(mask_column(view), self.of(&rules, mask));
        self.of(&rules, None).into_iter().map(|withheld| withheld.column).collect()
    }

    pub fn output(&self, tap: &Tap) -> Vec<Withheld> {
        // Later levels are over the columns of the first.
        let first = tap.levels.first();
        let exprs = first.iter().flat_map(|level| level.conjuncts.iter().chain(level.columns.iter().map(|(_, e)| e)));
        self.of(&exprs.cloned().collect::<Vec<_>>(), tap.mask.as_deref())
    }

    fn of(&self, exprs: &[Expr], mask: Option<&str>) -> Vec<Withheld> {
        let columns = exprs.iter().flat_map(|expr| expr.column_refs().into_iter().map(|column| column.name.clone()));
        let mut by: Vec<Withheld> = Vec::new();
        for column in columns.chain(mask.map(str::to_owned)) {
            let new = self.of_column.get(&column).into_iter().flatten();
            let new: Vec<_> = new.filter(|withheld| !by.contains(withheld)).cloned().collect();
            by.extend(new);
        }
        by
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use datafusion::prelude::lit;
    use redpoll_core::runtime::Version;

    use super::super::flatten::{Level, named};
    use super::*;

    fn call(module: &str, column: &str, sets_aside: bool) -> Call {
        Call {
            version: Version { module: module.into(), lock: String::new(), bundles: None },
            column: column.into(),
            arguments: Vec::new(),
            gate: None,
            returns: DataType::Int64,
            sets_aside,
            batch_rows: 1,
            batch_bytes: 1,
        }
    }

    fn tap(mask: Option<&str>, column: &str) -> Tap {
        let level =
            Level { conjuncts: Vec::new(), columns: vec![("x".into(), named(column) + lit(1))], unnest: Vec::new() };
        Tap { sink: "copy".into(), base: "alerts".into(), mask: mask.map(mask_column), levels: vec![level], texts: Vec::new() }
    }

    #[test]
    fn an_insert_is_kept_from_what_a_module_fails_on_if_it_depends_on_its_value_and_only_then() {
        let mut withholding = Withholding::default();
        withholding.enrich(&call("strict", "_module_0", true), None, &[named("candid")]);
        withholding.enrich(&call("lenient", "_module_1", false), None, &[named("_module_0")]);
        withholding.enrich(&call("lenient", "_module_2", false), None, &[named("candid")]);
        let rule = |column: &str| vec![("text".to_owned(), named(column).gt(lit(3)))];
        assert_eq!(withholding.cut("bright", None, &rule("candid")), Vec::<String>::new());
        assert_eq!(withholding.cut("young", Some(&mask_column("bright")), &rule("_module_0")), ["_failed_module_0"]);
        // What is not in a view is not withheld from the views of it a second time.
        assert_eq!(withholding.cut("near", Some(&mask_column("young")), &rule("candid")), Vec::<String>::new());

        let by = |tap: Tap| withholding.output(&tap).into_iter().map(|withheld| withheld.module).collect::<Vec<_>>();
        assert_eq!(by(tap(None, "candid")), Vec::<String>::new());
        assert_eq!(by(tap(Some("bright"), "_module_2")), Vec::<String>::new());
        assert_eq!(by(tap(None, "_module_0")), ["strict"]);
        assert_eq!(by(tap(None, "_module_1")), ["strict"], "through another module");
        assert_eq!(by(tap(Some("near"), "candid")), ["strict"], "through the view that its view reads");
    }
}
