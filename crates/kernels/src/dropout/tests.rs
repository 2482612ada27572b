use super::*;
use crate::linear::testing::{agree, random, same_bits};
use candle_core::{DType, Device};

#[test]
fn masks_depend_on_the_key_alone() {
    let x = random(&[40, 50], 1);
    agree(std::slice::from_ref(&x), |t, p| dropout(&t[0], 0.3, Key::new(5), p));
    agree(std::slice::from_ref(&x), |t, _| drop_path(&t[0], 0.3, Key::new(5)));
    same_bits(std::slice::from_ref(&x), |t| dropout(&t[0], 0.3, Key::new(5), Path::Fused));
    let list = |key| dropout(&x, 0.3, Key::new(key), Path::Fused).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(list(5), list(5));
    assert_ne!(list(5), list(6));
}

#[test]
fn as_many_as_asked_for_and_scaled() {
    let ones = Tensor::ones((100, 100), DType::F32, &Device::Cpu).unwrap();
    let y = dropout(&ones, 0.3, Key::new(1), Path::Fused).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let zeros = y.iter().filter(|v| **v == 0.0).count();
    assert!((2800..3200).contains(&zeros), "{zeros} of 10,000 dropped at p = 0.3");
    assert!(y.iter().all(|v| *v == 0.0 || (*v - 1.0 / 0.7).abs() < 1e-6));
    // Whole samples go, or stay.
    let paths = drop_path(&ones, 0.5, Key::new(2)).unwrap().to_vec2::<f32>().unwrap();
    assert!(paths.iter().all(|row| row.iter().all(|v| *v == row[0])));
    assert!(dropout(&ones, 1.0, Key::new(1), Path::Fused).is_err());
}
