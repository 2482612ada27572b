//! I-JEPA's blocks (Assran et al. 2023, arXiv 2301.08243, section 3): which patches of a sample are the
//! context, and which are to be predicted.

use super::masks;
use selfsup_kernels::rng::Rng;

/// How the blocks of a sample are drawn.
#[derive(Clone, Debug)]
pub(super) struct Multiblock {
    /// Target blocks of a sample.
    pub(super) targets: usize,
    /// Smallest and largest share of the patches in a target block.
    pub(super) target_scale: [f64; 2],
    /// Narrowest and widest aspect ratio of a target block.
    pub(super) target_ratio: [f64; 2],
    /// Smallest and largest share of the patches in the context block.
    pub(super) context_scale: [f64; 2],
    /// Patches that a context has at least, on a grid of at least four times as many.
    pub(super) min_context: usize,
}

/// The sides of the blocks of a step, the same for all samples.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sizes {
    pub(super) target: Vec<usize>,
    pub(super) context: Vec<usize>,
    /// Patches of a context without the targets: as many as are left on average.
    pub(super) kept: usize,
}

/// The patches of one sample.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blocks {
    pub(super) context: Vec<usize>,
    /// One list for each target block, equally long.
    pub(super) targets: Vec<Vec<usize>>,
}

/// Tries before a context may overlap one target more.
const TRIES: usize = 20;

impl Multiblock {
    /// The sides of the blocks of a step.
    pub(super) fn sizes(&self, grid: &[usize], rng: &mut Rng) -> Sizes {
        let patches = grid.iter().product::<usize>() as f64;
        let mut within = |[low, high]: [f64; 2]| low + f64::from(rng.uniform()) * (high - low);
        // The authors round the number of patches down.
        let target = (patches * within(self.target_scale)).floor().max(1.0);
        let ratio = within(self.target_ratio);
        let context = (patches * within(self.context_scale)).floor().max(1.0);
        let (target, context) = (masks::sides(grid, target, ratio), masks::sides(grid, context, 1.0));
        let count = |sides: &[usize]| sides.iter().product::<usize>() as f64;
        // A patch is outside of one target with the chance 1 - k / L.
        let left = count(&context) * (1.0 - count(&target) / patches).powi(self.targets as i32);
        Sizes { target, context, kept: (left.round() as usize).max(self.enough(grid)) }
    }

    /// Patches that a context has at least.
    fn enough(&self, grid: &[usize]) -> usize {
        self.min_context.min(grid.iter().product::<usize>() / 4).max(1)
    }

    /// Blocks of one sample. The context keeps out of all targets; where that leaves too little of it in
    /// twenty tries, it may overlap one target more, and so on, as the authors do.
    pub(super) fn blocks(&self, grid: &[usize], sizes: &Sizes, rng: &mut Rng) -> Blocks {
        let (l, enough) = (grid.iter().product(), self.enough(grid));
        let mut left_out = self.targets;
        loop {
            for _ in 0..TRIES {
                let place = |sides: &[usize], rng: &mut Rng| {
                    masks::block(grid, &masks::start(grid, sides, rng), sides)
                };
                let targets: Vec<_> = (0..self.targets).map(|_| place(&sizes.target, rng)).collect();
                let mut free = vec![true; l];
                targets.iter().take(left_out).flatten().for_each(|&p| free[p] = false);
                let mut context = place(&sizes.context, rng);
                context.retain(|&p| free[p]);
                // A context that overlaps all targets has nothing taken out.
                if context.len() >= enough || left_out == 0 {
                    if context.len() > sizes.kept {
                        rng.shuffle(&mut context);
                        context.truncate(sizes.kept);
                        context.sort_unstable();
                    }
                    return Blocks { context, targets };
                }
            }
            left_out -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_kernels::rng::Key;

    /// The paper's.
    fn draw() -> Multiblock {
        Multiblock {
            targets: 4,
            target_scale: [0.15, 0.2],
            target_ratio: [0.75, 1.5],
            context_scale: [0.85, 1.0],
            min_context: 10,
        }
    }

    /// Sizes of 224 pixels and patches of 16 as the authors' multiblock.py gives them, contexts that keep out
    /// of the targets, and grids so small that they cannot.
    #[test]
    fn contexts_keep_out_of_the_targets() {
        let config = draw();
        for grid in [vec![14, 14], vec![7, 7], vec![4, 4], vec![6, 6, 6]] {
            let l: usize = grid.iter().product();
            for step in 0..30 {
                let sizes = config.sizes(&grid, &mut Key::new(step).rng());
                for sample in 0..10 {
                    let b = config.blocks(&grid, &sizes, &mut Key::new(step).fold(sample).rng());
                    assert!(b.targets.iter().all(|t| t.len() == sizes.target.iter().product::<usize>()));
                    assert!(
                        b.context.len() >= config.min_context.min(l / 4) && b.context.iter().all(|p| *p < l)
                    );
                    let overlap = b.context.iter().any(|p| b.targets.iter().flatten().any(|t| t == p));
                    assert!(!overlap || l < 20, "{grid:?}");
                }
                if grid == [14, 14] {
                    let (target, context): (usize, usize) =
                        (sizes.target.iter().product(), sizes.context.iter().product());
                    assert!((25..=42).contains(&target) && (169..=196).contains(&context), "{sizes:?}");
                }
            }
        }
        // As many targets as there are places: the context overlaps, but there is one.
        let crowded = Multiblock { targets: 30, target_scale: [0.5, 0.5], ..config };
        let sizes = crowded.sizes(&[4, 4], &mut Key::new(1).rng());
        assert!(!crowded.blocks(&[4, 4], &sizes, &mut Key::new(2).rng()).context.is_empty());
    }
}
