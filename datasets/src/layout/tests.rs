use super::*;

fn arranged(names: &[&str], layout: Layout) -> (Vec<String>, Arranged) {
    let root = Path::new("/data");
    let found = arrange(root, names.iter().map(|n| root.join(n)).collect(), layout);
    let kept = found.files.iter().map(|f| f.strip_prefix(root).unwrap().display().to_string()).collect();
    (kept, found)
}

fn classes(found: &Arranged) -> Vec<&str> {
    found.classes.iter().map(|c| c.as_deref().unwrap_or("-")).collect()
}

#[test]
fn splits_are_no_classes() {
    let (_, found) = arranged(
        &["test/cat/1.png", "test/dog/2.png", "train/cat/3.png", "train/dog/4.png", "valid/cat/5.png"],
        Layout::Auto,
    );
    assert_eq!(classes(&found), ["cat", "dog", "cat", "dog", "cat"]);
    use Split::{Test, Train, Validation};
    assert_eq!(found.splits, [Test, Test, Train, Train, Validation].map(Some));
    assert!(found.notes[0].contains("2 samples to train on, 1 for validation, 2 for testing"));
    assert!(found.notes[0].contains("data.layout"), "{:?}", found.notes);
    let (_, plain) = arranged(&["test/cat/1.png", "train/cat/3.png"], Layout::Plain);
    assert_eq!((classes(&plain), plain.splits[0]), (vec!["test", "train"], None));
    assert!(plain.notes.is_empty());
}

#[test]
fn splits_below_other_folders_and_beside_unlabelled_samples() {
    let (_, found) = arranged(&["set/train/a/1.png", "set/train/b/2.png", "set/dev/a/3.png"], Layout::Auto);
    assert_eq!(classes(&found), ["a", "b", "a"]);
    let (_, found) = arranged(&["cat/train/1.png", "cat/test/2.png", "dog/train/3.png"], Layout::Auto);
    assert_eq!((classes(&found), found.splits[1]), (vec!["cat", "cat", "dog"], Some(Split::Test)));
    let (_, found) =
        arranged(&["test/a/0.png", "train/a/1.png", "train/b/2.png", "unlabeled/3.png"], Layout::Auto);
    assert_eq!((classes(&found), found.splits[3]), (vec!["a", "a", "b", "-"], Some(Split::Train)));
    // A vehicle among other classes, two parts none of which is for training: no splits.
    for names in [&["train/1.png", "car/2.png"][..], &["test/1.png", "val/2.png"]] {
        let (_, found) = arranged(names, Layout::Auto);
        assert!(found.splits.iter().all(Option::is_none) && found.classes[0].is_some(), "{names:?}");
    }
    // Training data alone is divided as any other.
    let (_, found) = arranged(&["train/a/1.png", "train/b/2.png"], Layout::Auto);
    assert_eq!((classes(&found), &found.splits[..]), (vec!["a", "b"], &[None, None][..]));
    // Without folders of classes there are none.
    let (_, found) = arranged(&["train/1.png", "val/2.png"], Layout::Auto);
    assert_eq!(classes(&found), ["-", "-"]);
}

#[test]
fn shards_are_divided_by_their_names() {
    let of = |names: &[&str]| {
        let files: Vec<PathBuf> = names.iter().map(|n| Path::new("/d").join(n)).collect();
        parts_of_files(Path::new("/d"), &files, Layout::Auto).0
    };
    use Split::{Test, Train};
    assert_eq!(
        of(&["train-00000-of-00002.parquet", "test-00000-of-00001.parquet"]),
        [Some(Train), Some(Test)]
    );
    assert_eq!(of(&["train/0.tar", "test/0.tar"]), [Some(Train), Some(Test)]);
    assert_eq!(of(&["train-0.tar", "0.tar"]), [None, None]);
    assert_eq!(of(&["test-0.tar"]), [None]);
}

#[test]
fn folders_of_labels_hold_no_samples() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["images/1.png", "images/2.png", "masks/1.png"], &["images/1.png", "images/2.png"]),
        (&["train/image/1.png", "train/label/1.png"], &["train/image/1.png"]),
        (&["train_images/1.png", "train_masks/1.png"], &["train_images/1.png"]),
        (
            &["imagesTr/a_0000.nii.gz", "imagesTs/b_0000.nii.gz", "labelsTr/a.nii.gz"],
            &["imagesTr/a_0000.nii.gz", "imagesTs/b_0000.nii.gz"],
        ),
        (
            &["derivatives/sub-1/seg.nii", "sub-1/anat/t1.nii", "sub-2/anat/t1.nii"],
            &["sub-1/anat/t1.nii", "sub-2/anat/t1.nii"],
        ),
        (
            &["ground_truth/x/1.png", "test/x/1.png", "train/good/2.png"],
            &["test/x/1.png", "train/good/2.png"],
        ),
    ];
    for (names, samples) in cases {
        let (kept, found) = arranged(names, Layout::Auto);
        assert_eq!(kept, samples);
        assert!(found.notes[0].contains("are labels") && found.notes[0].contains("data.layout"));
        assert_eq!(arranged(names, Layout::Plain).0.len(), names.len());
    }
    // nnU-Net's folders divide; what lies beside masks has the classes below `images`.
    let (_, found) = arranged(cases[3].0, Layout::Auto);
    assert_eq!(found.splits, [Some(Split::Train), Some(Split::Test)]);
    let (_, found) = arranged(&["images/a/1.png", "images/b/2.png", "masks/a/1.png"], Layout::Auto);
    assert_eq!(classes(&found), ["a", "b"]);
    let (_, found) = arranged(&["sub-1/anat/t1.nii", "sub-2/anat/t1.nii"], Layout::Auto);
    assert_eq!((classes(&found), found.groups[1].as_deref()), (vec!["-", "-"], Some("sub-2")));
    // A class that is called like labels, without images beside it.
    let (kept, found) = arranged(&["mask/1.png", "no_mask/2.png"], Layout::Auto);
    assert_eq!((kept.len(), classes(&found)), (2, vec!["mask", "no_mask"]));
}

#[test]
fn files_of_labels_beside_samples() {
    let cases: [(&[&str], usize); 8] = [
        (&["a.png", "a.seg.png"], 1),
        (&["a.nii.gz", "a_seg.nii.gz", "b.nii.gz"], 2),
        (&["p1_flair.nii.gz", "p1_seg.nii.gz", "p1_t1.nii.gz"], 2),
        (&["img0001.nii.gz", "label0001.nii.gz"], 1),
        (&["c1/imaging.nii.gz", "c1/segmentation.nii.gz"], 1),
        // Nothing beside it that it could be of.
        (&["a_seg.png", "b.png"], 2),
        (&["mask.jpg", "hat.jpg"], 2),
        (&["a_mask.png", "a_seg.png"], 2),
    ];
    for (names, samples) in cases {
        let (kept, found) = arranged(names, Layout::Auto);
        assert_eq!(kept.len(), samples, "{names:?}: {kept:?}");
        assert_eq!(found.notes.len(), usize::from(samples < names.len()));
    }
}
