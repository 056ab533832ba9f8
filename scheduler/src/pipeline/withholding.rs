//! What keeps alerts from which `INSERT`s by failing on them: views whose `WHERE` may err, and modules that set alerts
//! aside or whose arguments may err, if the rows of the `INSERT` depend on the view, or on the module's value as a column,
//! in a `WHERE` or through another module's arguments.

use std::collections::BTreeMap;

use datafusion::logical_expr::Expr;
use redpoll_core::steps::{Call, Withheld, mask_column};

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
        by.push(Withheld::by_module(&call.version.module, &call.column));
        self.of_column.insert(call.column.clone(), by);
    }

    /// Adds a column of matches.
    pub fn matched(&mut self, column: &str, mask: Option<&str>, position: &[Expr]) {
        self.of_column.insert(column.to_owned(), self.of(position, mask));
    }

    /// Adds a view's mask. What comes back keeps rows out of the view before its rules are asked: those out of the view
    /// that it reads are out already.
    pub fn cut(&mut self, view: &str, mask: Option<&str>, rules: &[(String, Expr)]) -> Vec<String> {
        let rules: Vec<Expr> = rules.iter().map(|(_, rule)| rule.clone()).collect();
        let mut by = self.of(&rules, mask);
        by.push(Withheld::by_view(view));
        self.of_column.insert(mask_column(view), by);
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

    fn call(module: &str, column: &str) -> Call {
        Call {
            version: Version { module: module.into(), lock: String::new(), bundles: None },
            shadow: None,
            column: column.into(),
            arguments: Vec::new(),
            gate: None,
            returns: DataType::Int64,
            sets_aside: false,
            batch_rows: 1,
            batch_bytes: 1,
        }
    }

    fn tap(mask: Option<&str>, column: &str) -> Tap {
        let level =
            Level { conjuncts: Vec::new(), columns: vec![("x".into(), named(column) + lit(1))], unnest: Vec::new() };
        Tap {
            sink: "copy".into(),
            base: "alerts".into(),
            mask: mask.map(mask_column),
            levels: vec![level],
            texts: Vec::new(),
        }
    }

    #[test]
    fn an_insert_is_kept_from_what_a_module_or_a_view_fails_on_if_it_depends_on_it_and_only_then() {
        let mut withholding = Withholding::default();
        withholding.enrich(&call("first", "_module_0"), None, &[named("candid")]);
        withholding.enrich(&call("second", "_module_1"), None, &[named("_module_0")]);
        withholding.enrich(&call("third", "_module_2"), None, &[named("candid")]);
        let rule = |column: &str| vec![("text".to_owned(), named(column).gt(lit(3)))];
        assert_eq!(withholding.cut("bright", None, &rule("candid")), Vec::<String>::new());
        assert_eq!(withholding.cut("young", Some(&mask_column("bright")), &rule("_module_0")), ["_failed_module_0"]);
        // What is not in a view is not withheld from the views of it a second time.
        assert_eq!(withholding.cut("near", Some(&mask_column("young")), &rule("candid")), Vec::<String>::new());

        let by = |tap: Tap| withholding.output(&tap).iter().map(Withheld::name).collect::<Vec<_>>();
        assert_eq!(by(tap(None, "candid")), Vec::<String>::new());
        assert_eq!(by(tap(Some("bright"), "_module_2")), ["third", "view bright"]);
        assert_eq!(by(tap(None, "_module_0")), ["first"]);
        assert_eq!(by(tap(None, "_module_1")), ["first", "second"], "through another module");
        let through = ["first", "view bright", "view young", "view near"];
        assert_eq!(by(tap(Some("near"), "candid")), through, "through the views that its view reads");
    }
}
