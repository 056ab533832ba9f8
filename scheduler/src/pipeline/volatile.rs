//! Functions that give another value each time they are called.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Volatility};

/// Their names in an expression; science modules are among them.
pub(super) fn volatile(expr: &Expr) -> Vec<String> {
    let mut found = Vec::new();
    let _ = expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr
            && call.func.signature().volatility == Volatility::Volatile
        {
            found.push(call.func.name().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}
