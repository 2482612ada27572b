use super::*;
use selfsup_kernels::rng::{Key, Rng};
use std::time::{Duration, Instant};

/// Sample `i` is `i`; some fail, some panic, all take a while.
struct Numbers {
    n: usize,
    fail: Vec<usize>,
    panic: Vec<usize>,
    wait: Duration,
    reads: AtomicU64,
}

impl Numbers {
    fn new(n: usize) -> Self {
        Numbers { n, fail: vec![], panic: vec![], wait: Duration::ZERO, reads: AtomicU64::new(0) }
    }
}

impl Dataset for Numbers {
    type Item = usize;
    fn len(&self) -> usize {
        self.n
    }
    fn get(&self, index: usize) -> Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.wait * (1 + index as u32 % 3));
        if self.fail.contains(&index) {
            return Err(Error::file("x.png", "not an image"));
        }
        assert!(!self.panic.contains(&index), "decoder bug at {index}");
        Ok(index)
    }
}

type Stacked = (Vec<(usize, u32)>, u64);

struct Stack;
impl Collate<(usize, u32)> for Stack {
    type Batch = Stacked;
    fn collate(&self, items: Vec<(usize, u32)>, indices: &[usize], key: Key) -> Result<Self::Batch> {
        assert!(items.iter().map(|x| x.0).eq(indices.iter().copied()));
        Ok((items, key.bits()))
    }
}

fn augment(i: usize, rng: &mut Rng) -> Result<(usize, u32)> {
    Ok((i, rng.next_u32()))
}

type L = Loader<Numbers, fn(usize, &mut Rng) -> Result<(usize, u32)>, Stack>;

fn loader(data: Numbers, config: LoaderConfig) -> L {
    Loader::new(Arc::new(data), Arc::new(augment as _), Arc::new(Stack), config).unwrap()
}

fn config(workers: usize) -> LoaderConfig {
    LoaderConfig { batch_size: 8, workers, prefetch: 3, drop_last: false, seed: 5, ..LoaderConfig::default() }
}

#[test]
fn the_same_batches_for_any_number_of_workers_and_from_any_start() {
    let all = |workers: usize, epoch, first| {
        let data = Numbers { wait: Duration::from_micros(200), ..Numbers::new(100) };
        loader(data, config(workers)).epoch_from(epoch, first).unwrap().collect::<Result<Vec<_>>>().unwrap()
    };
    let inline = all(0, 1, 0);
    assert_eq!(inline.len(), 13);
    assert_eq!(inline[12].indices.len(), 4);
    for workers in [1, 2, 5, 16] {
        assert_eq!(inline, all(workers, 1, 0), "{workers} workers");
        assert_eq!(inline[7..], all(workers, 1, 7), "{workers} workers, resumed");
    }
    let other = all(2, 2, 0);
    assert_ne!(inline[0].indices, other[0].indices);
    let draw = |bs: &[LoadedBatch<Stacked>]| bs.iter().flat_map(|b| b.batch.0.clone()).find(|x| x.0 == 3);
    assert_ne!(draw(&inline), draw(&other), "augmentation differs between epochs");
    assert!(all(2, 1, 13).is_empty() && all(2, 1, 99).is_empty());
}

#[test]
fn batches_by_length_are_the_same_for_any_number_of_workers() {
    let lengths: Vec<u32> = (0..100).map(|i| i * 37 % 101).collect();
    let all = |workers: usize, first| {
        let (data, augment) =
            (Arc::new(Numbers::new(100)), Arc::new(augment as fn(usize, &mut Rng) -> Result<(usize, u32)>));
        let l =
            Loader::by_length(data, augment, Arc::new(Stack), config(workers), lengths.clone(), 6).unwrap();
        l.epoch_from(1, first).unwrap().collect::<Result<Vec<_>>>().unwrap()
    };
    let inline = all(0, 0);
    assert_eq!(inline.iter().map(|b| b.indices.len()).sum::<usize>(), 100);
    let spread = |b: &LoadedBatch<Stacked>| {
        let l = b.indices.iter().map(|&i| lengths[i]);
        l.clone().max().unwrap() - l.min().unwrap()
    };
    assert!(inline[..12].iter().map(spread).sum::<u32>() < 12 * 40, "batches of like lengths");
    assert_eq!(inline[5..], all(3, 5));
}

#[test]
fn a_bad_sample_is_named() {
    for workers in [0, 3] {
        let l = loader(Numbers { fail: vec![42], ..Numbers::new(100) }, config(workers));
        let mut seen = 0;
        let mut epoch = l.epoch_from(0, 0).unwrap();
        let e = loop {
            match epoch.next().unwrap() {
                Ok(_) => seen += 1,
                Err(e) => break e,
            }
        };
        assert!(epoch.next().is_none());
        assert!(e.to_string().contains("sample 42") && e.to_string().contains("x.png: not an image"), "{e}");
        assert!(seen < 13);
        let l = loader(Numbers { panic: vec![7], ..Numbers::new(100) }, config(workers));
        let e = l.epoch_from(0, 0).unwrap().find_map(Result::err).unwrap();
        assert!(e.to_string().contains("sample 7") && e.to_string().contains("decoder bug at 7"), "{e}");
    }
}

#[test]
fn bad_samples_are_skipped_up_to_a_share() {
    let run = |workers, fraction, counts: (u64, u64)| {
        let data = Numbers { fail: vec![42, 43], panic: vec![7], ..Numbers::new(100) };
        let l = loader(data, LoaderConfig { max_bad_fraction: fraction, ..config(workers) });
        l.restore_counts(counts.0, counts.1);
        let batches = l.epoch_from(0, 0).unwrap().collect::<Result<Vec<_>>>();
        (batches, l.counts())
    };
    let whole: Vec<_> =
        loader(Numbers::new(100), config(0)).epoch_from(0, 0).unwrap().map(Result::unwrap).collect();
    for workers in [0, 4] {
        let (batches, counts) = run(workers, 0.03, (0, 0));
        assert_eq!(counts, (3, 100));
        for (b, w) in batches.unwrap().iter().zip(&whole) {
            // Nothing else moves: what is left of a batch is what it was, with the same augmentation.
            let good = w.batch.0.iter().filter(|x| ![42, 43, 7].contains(&x.0)).copied().collect::<Vec<_>>();
            assert_eq!(b.batch.0, good);
            assert_eq!(b.indices.len() + b.bad.len(), w.indices.len());
        }
        let e = run(workers, 0.029, (0, 0)).0.unwrap_err();
        assert!(
            e.to_string().contains("3 bad samples")
                && e.to_string().contains("100")
                && e.to_string().contains("0.029"),
            "{e}"
        );
        // The count of the run goes on after a resume: 5 of 200 is 0.025.
        assert!(run(workers, 0.025, (2, 100)).0.is_ok());
        assert!(run(workers, 0.025, (3, 100)).0.is_err());
    }
    let data = Numbers { fail: (0..100).collect(), ..Numbers::new(100) };
    let e = loader(data, LoaderConfig { max_bad_fraction: 1.0, ..config(2) })
        .epoch_from(0, 0)
        .unwrap()
        .next()
        .unwrap();
    assert!(e.unwrap_err().to_string().contains("no good sample"));
}

#[test]
fn workers_share_the_first_batch_and_keep_to_the_window() {
    let data = Numbers { wait: Duration::from_millis(40), ..Numbers::new(800) };
    let l = loader(data, LoaderConfig { prefetch: 2, ..config(8) });
    let reads = || l.0.dataset.reads.load(Ordering::Relaxed);
    let start = Instant::now();
    let mut epoch = l.epoch_from(0, 0).unwrap();
    epoch.next().unwrap().unwrap();
    // One thread needs 8 x 80 ms on average for the batch; eight need 120 ms and what starting them takes.
    assert!(start.elapsed() < Duration::from_millis(450), "{:?}", start.elapsed());
    while reads() < 24 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(reads(), 24, "one batch delivered, two in the window");
    // The rest of the epoch would take 10 s.
    let start = Instant::now();
    epoch.next().unwrap().unwrap();
    drop(epoch);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let before = reads();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(before, reads(), "nothing is read after the drop");
}

struct Fussy;
impl Collate<usize> for Fussy {
    type Batch = ();
    fn collate(&self, items: Vec<usize>, _: &[usize], _: Key) -> Result<()> {
        assert!(!items.contains(&5), "shapes differ");
        Ok(())
    }
}

#[test]
fn a_panic_in_the_collate_names_the_batch_and_dyn_works() {
    let data: Arc<dyn Dataset<Item = usize>> = Arc::new(Numbers::new(16));
    let transform: Arc<dyn Transform<usize, Out = usize>> = Arc::new(|i: usize, _: &mut Rng| Ok(i));
    let collate: Arc<dyn Collate<usize, Batch = ()>> = Arc::new(Fussy);
    let l = Loader::new(data, transform, collate, config(2)).unwrap();
    let source: &dyn Source<()> = &l;
    let e = source.epoch_from(0, 0).unwrap().find_map(Result::err).unwrap();
    assert!(e.to_string().contains("batch") && e.to_string().contains("shapes differ"), "{e}");
}

#[test]
fn configuration_is_checked() {
    let new = |c| Loader::new(Arc::new(Numbers::new(4)), Arc::new(augment), Arc::new(Stack), c).map(|_| ());
    let e = new(LoaderConfig { batch_size: 8, drop_last: true, ..config(0) }).unwrap_err().to_string();
    assert!(e.contains('8') && e.contains('4'), "{e}");
    assert!(new(LoaderConfig { max_bad_fraction: 1.5, ..config(0) }).is_err());
    assert!(new(LoaderConfig { max_bad_fraction: f64::NAN, ..config(0) }).is_err());
}
