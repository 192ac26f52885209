//! Results that are only ever factors of products.

use std::cell::Cell;

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Does one operation whose result is only ever a factor of [`linear`](crate::Ops::linear) layers or the queries, keys and
/// values of attention.
///
/// In bf16 a factor is rounded before it is multiplied. A backend may then round the result as it writes it, which spares
/// memory half of the bytes and another pass over them; no number that comes of it changes. Whoever reads the result itself
/// must not ask for it in this way: of what type its numbers are is up to the backend.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{Ops, as_factor, burn::tensor::Tensor, device::{Cpu, cpu}};
///
/// let x = Tensor::<Cpu, 2>::from_data([[1.0, 3.0]], &cpu());
/// let [gain, bias] = [[1.0, 1.0], [0.0, 0.0]].map(|row| Tensor::from_data(row, &cpu()));
/// let normed = as_factor(|| <Cpu as Ops>::layer_norm(x, gain, bias, 0.0));
/// let y = <Cpu as Ops>::linear(normed, Tensor::from_data([[2.0], [5.0]], &cpu()), None);
/// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [3.0]);
/// ```
pub fn as_factor<T>(operation: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            HERE.set(self.0);
        }
    }
    let _before = Before(HERE.replace(true));
    operation()
}

/// Whether this thread is in [`as_factor`].
#[cfg_attr(
    not(feature = "gpu"),
    expect(dead_code, reason = "the CPU rounds as it lays factors out")
)]
pub(crate) fn is_factor() -> bool {
    HERE.get()
}
