//! One value and its encoding under a type.

use std::borrow::Cow;

use super::schema::Type;
use super::wire::{put_bytes, put_long};

/// A scalar. Numbers take the width that the schema gives them.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    Null,
    Boolean(bool),
    Int(i64),
    Real(f64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
}

impl Cell<'_> {
    pub fn text(value: &str) -> Cell<'_> {
        Cell::Text(Cow::Borrowed(value))
    }

    /// Appends the value as `ty`; in a union, as the first branch that holds it. False, and nothing written, when
    /// `ty` cannot hold it.
    #[must_use]
    pub fn put(&self, ty: &Type, out: &mut Vec<u8>) -> bool {
        match (ty, self) {
            (Type::Union(branches), _) => match branches.iter().position(|b| self.fits(b)) {
                Some(branch) => {
                    put_long(branch as i64, out);
                    return self.put(&branches[branch], out);
                }
                None => return false,
            },
            (Type::Null, Cell::Null) => {}
            (Type::Boolean, Cell::Boolean(value)) => out.push(u8::from(*value)),
            (Type::Int | Type::Long, Cell::Int(value)) => put_long(*value, out),
            (Type::Float, Cell::Real(value)) => out.extend_from_slice(&(*value as f32).to_le_bytes()),
            (Type::Double, Cell::Real(value)) => out.extend_from_slice(&value.to_le_bytes()),
            (Type::String, Cell::Text(value)) => put_bytes(value.as_bytes(), out),
            (Type::Bytes, Cell::Bytes(value)) => put_bytes(value, out),
            _ => return false,
        }
        true
    }

    fn fits(&self, ty: &Type) -> bool {
        matches!(
            (ty, self),
            (Type::Null, Cell::Null)
                | (Type::Boolean, Cell::Boolean(_))
                | (Type::Int | Type::Long, Cell::Int(_))
                | (Type::Float | Type::Double, Cell::Real(_))
                | (Type::String, Cell::Text(_))
                | (Type::Bytes, Cell::Bytes(_))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_the_first_branch_that_holds_it() {
        let ty = Type::Union(vec![Type::Float, Type::Null]);
        let mut out = Vec::new();
        assert!(Cell::Null.put(&ty, &mut out));
        assert!(Cell::Real(1.0).put(&ty, &mut out));
        assert_eq!(out, [2, 0, 0, 0, 0x80, 0x3f]);
    }

    #[test]
    fn a_value_that_does_not_fit_writes_nothing() {
        let mut out = Vec::new();
        assert!(!Cell::Null.put(&Type::Float, &mut out));
        assert!(!Cell::Int(1).put(&Type::Union(vec![Type::Null, Type::String]), &mut out));
        assert!(out.is_empty());
    }
}
