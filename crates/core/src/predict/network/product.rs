//! Products of matrices that lie in slices.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// A matrix, row after row, or the transpose of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// The first rows × columns of the values.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values: &values[..rows * columns], rows, columns, transposed: false }
    }

    /// Its transpose.
    pub(super) fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Rows and columns as they are used.
    fn shape(&self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    fn view(&self) -> Option<ArrayView2<'a, f32>> {
        let view = ArrayView2::from_shape((self.rows, self.columns), self.values).ok()?;
        Some(if self.transposed { view.reversed_axes() } else { view })
    }
}

/// `to` = `a` · `b`.
pub(super) fn set_product(to: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    product(to, a, b, 0.0);
}

/// `to` += `a` · `b`.
pub(super) fn add_product(to: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    product(to, a, b, 1.0);
}

fn product(to: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, kept: f32) {
    let ((rows, inner), (inner_b, columns)) = (a.shape(), b.shape());
    assert_eq!(inner, inner_b, "inner sizes of a product");
    let to = &mut to[..rows * columns];
    if let (Some(a), Some(b), Ok(mut to)) =
        (a.view(), b.view(), ArrayViewMut2::from_shape((rows, columns), to))
    {
        general_mat_mul(1.0, &a, &b, kept, &mut to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "small numbers of halves are exact")]
    fn products_by_hand() {
        let a = Matrix::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3);
        let b = Matrix::new(&[1.0, 0.0, 2.0], 3, 1);
        let mut to = [9.0, 9.0];
        set_product(&mut to, a, b);
        assert_eq!(to, [7.0, 16.0]);
        add_product(&mut to, a, b);
        assert_eq!(to, [14.0, 32.0]);
        let mut outer = [0.0; 4];
        set_product(
            &mut outer,
            Matrix::new(&[1.0, 2.0], 1, 2).transposed(),
            Matrix::new(&[3.0, 4.0], 1, 2),
        );
        assert_eq!(outer, [3.0, 4.0, 6.0, 8.0]);
    }
}
