use super::*;
use candle_core::DType;

fn numbers(shape: (usize, usize, usize, usize)) -> Tensor {
    let count = (shape.0 * shape.1 * shape.2 * shape.3) as u32;
    let t = Tensor::arange(0u32, count, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    t.reshape(shape).unwrap()
}

#[test]
fn windows_come_together_again() -> Result<()> {
    for (size, window, shifted) in
        [([8, 8], 4, true), ([7, 10], 4, true), ([3, 9], 4, true), ([6, 6], 3, false)]
    {
        let x = numbers((2, size[0], size[1], 3));
        let cut = Cut::new(size, window, shifted);
        let parts = cut.apart(&x)?;
        assert_eq!(parts.dims(), [2 * cut.windows(), window * window, 3]);
        let back = cut.together(&parts, 2)?;
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(&back), flat(&x), "{size:?}");
    }
    Ok(())
}

/// Patches see each other where they were neighbours before the map was turned.
#[test]
fn the_mask_keeps_apart_what_met_over_the_edge() -> Result<()> {
    let cut = Cut::new([8, 8], 4, true);
    // The row and the column of each patch, which a window holds in its places.
    let places = numbers((1, 8, 8, 1));
    let parts = cut.apart(&places)?.squeeze(2)?.to_vec2::<f32>()?;
    let mask = cut.mask(&Device::Cpu)?.map(|m| m.squeeze(1)).transpose()?.map(|m| m.to_vec3::<f32>());
    let mask = mask.transpose()?.unwrap_or_default();
    for (window, rows) in parts.iter().zip(&mask) {
        for (q, row) in window.iter().zip(rows) {
            for (k, value) in window.iter().zip(row) {
                let at = |p: f32| (p as usize / 8, p as usize % 8);
                let near = |a: usize, b: usize| a.abs_diff(b) < 4;
                let seen = near(at(*q).0, at(*k).0) && near(at(*q).1, at(*k).1);
                assert_eq!(*value == 0.0, seen, "{q} and {k}");
            }
        }
    }
    assert!(Cut::new([4, 4], 4, true).mask(&Device::Cpu)?.is_none(), "one window");
    Ok(())
}
