//! Keys of a task, and of sections that are given in part.

use crate::config::{Keys, PretrainConfig};
use crate::draft::Draft;

#[cfg(feature = "vision")]
#[test]
fn a_task_changes_the_method_of_its_run() {
    use crate::modality::vision::Keys;
    use crate::task::{TaskConfig, TaskKeys};
    let run = "[method]\nname = \"simclr\"\ntemperature = 0.1\n[encoder]\nname = \"vit_small\"\npatch = 4\n[augment]\nsize = 32";
    let run = PretrainConfig::<Keys>::load(run, "run", &[]).unwrap();
    let of = |text: &str| {
        let draft = Draft::parse(text, "t.toml").unwrap();
        let config = TaskConfig::<Keys>::of(&draft, Some(&run)).unwrap();
        let refused =
            config.refuse_unread(&draft, Some(&run), &TaskKeys::CHOICES).err().map(|e| e.to_string());
        (config, refused)
    };
    let (config, refused) = of("[method]\nname = \"byol\"\n[encoder]\nname = \"vit_tiny\"");
    let encoder = toml::Value::try_from(&config.keys.encoder).unwrap();
    assert_eq!((config.keys.method(), config.keys.encoder()), ("byol", "vit_tiny"));
    assert_eq!(
        (encoder["patch"].as_integer(), config.keys.augment.size),
        (Some(4), 32),
        "of the same network"
    );
    assert_eq!((config.optim.lr, config.train.epochs, refused), (3e-4, 30, None));
    let (config, _) = of("[encoder]\nname = \"resnet18\"\n[task]\ntrain_blocks = 0");
    assert_eq!((config.keys.encoder(), config.optim.lr), ("resnet18", 1e-2));
    let (config, _) = of("[optim]\nkind = \"sgd\"\nnesterov = true");
    assert_eq!((config.optim.lr, config.optim.layer_decay), (0.03, None), "the defaults of its kind");
    let refused = of("[method]\ntemperature = 0.7").1.unwrap_or_default();
    assert!(refused.contains("t.toml:2: `method.temperature` is read in pre-training"), "{refused}");
    let refused = of("[augment]\njitter_p = 0.5").1.unwrap_or_default();
    assert!(refused.contains("`augment.jitter_p` is read by methods that compare views"), "{refused}");
}

#[cfg(feature = "medical")]
#[test]
fn a_key_of_a_default_section_can_be_given_alone() {
    use crate::modality::medical::Keys;
    let of = |text: &str, overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_string()).collect();
        PretrainConfig::<Keys>::load(text, "c.toml", &overrides)
    };
    let scale = |text: &str, overrides: &[&str]| {
        toml::Value::try_from(of(text, overrides).unwrap().keys.augment.scale).unwrap()
    };
    assert_eq!(scale("", &["augment.scale.foreground=true"])["foreground"].as_bool(), Some(true));
    let window = "[augment]\nscale = { kind = \"window\", low = 0.0, high = 80.0 }";
    assert_eq!(
        scale(window, &["augment.scale.kind = z-score"]).as_table().unwrap()["kind"].as_str(),
        Some("z-score")
    );
    let e = of(window, &["augment.scale.foreground=true"]).unwrap_err().to_string();
    assert!(
        e.contains("`augment.scale.foreground` is a key of percentiles and z-score, not of window"),
        "{e}"
    );
    let e = of("[encoder]\nname = \"unet3d\"\nheads = 3", &[]).unwrap_err().to_string();
    assert_eq!(e, "config: c.toml:3: `encoder.heads` is a key of vit3d, not of unet3d");
    let e = of("", &["encoder.dilated=true"]).unwrap_err().to_string();
    assert!(e.contains("`encoder.dilated` is a key of resnet3d, not of unet3d"), "{e}");
}
