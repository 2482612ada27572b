use super::*;
use candle_core::Device;

fn t(from: f32, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::from_vec((0..n).map(|i| from + i as f32).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

fn set(list: &[(&str, Tensor)]) -> Tensors {
    list.iter().map(|(n, t)| (n.to_string(), t.clone())).collect()
}

fn same(a: &Tensors, b: &Tensors) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (n, x) in a {
        let (x, y) = (x, &b[n]);
        assert_eq!(x.dims(), y.dims(), "{n}");
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(x), flat(y), "{n}");
    }
}

#[test]
fn a_vision_transformer_there_and_back() {
    let rules = Rules::new(&[
        Rule::prefix("vit", "encoder"),
        Rule::drop("classifier.**"),
        Rule::rename("encoder.layer.*.**", "encoder.blocks.*.**"),
        Rule::fill("encoder.blocks.*.attn.key.bias", "encoder.blocks.*.attn.query.bias", 0.0),
        Rule::concat("encoder.blocks.*.attn.{query,key,value}.*", "encoder.blocks.*.attn.qkv.*", 0),
        Rule::transpose("encoder.blocks.*.fc.weight"),
        Rule::squeeze("encoder.pos", 0),
        Rule::unsqueeze("encoder.class", 0),
        Rule::split("encoder.pair", "encoder.{a,b}", 1),
    ])
    .unwrap();
    let mut theirs = vec![
        ("vit.pos", t(0.0, &[1, 3, 2])),
        ("vit.pair", t(5.0, &[2, 4])),
        ("vit.class", t(3.0, &[4])),
        ("classifier.w", t(0.0, &[1])),
    ];
    let blocks = ["0", "10"];
    let names: Vec<[String; 6]> = blocks
        .iter()
        .map(|b| {
            ["query.weight", "query.bias", "key.weight", "value.weight", "value.bias"]
                .map(|x| format!("vit.layer.{b}.attn.{x}"))
        })
        .zip(blocks)
        .map(|(n, b)| {
            let [a, c, d, e, f] = n;
            [a, c, d, e, f, format!("vit.layer.{b}.fc.weight")]
        })
        .collect();
    for n in &names {
        for (i, n) in n.iter().enumerate() {
            theirs.push((n, t(100.0 * i as f32, if n.ends_with("bias") { &[2] } else { &[2, 2] })));
        }
    }
    let mut theirs = set(&theirs);
    let ours = rules.to_ours(theirs.clone()).unwrap();
    let expected = ["a", "b", "blocks.0.attn.qkv.bias", "blocks.0.attn.qkv.weight", "blocks.0.fc.weight"];
    assert_eq!(ours.keys().take(5).cloned().collect::<Vec<_>>(), expected.map(|n| format!("encoder.{n}")));
    assert_eq!(
        ours["encoder.blocks.10.attn.qkv.bias"].to_vec1::<f32>().unwrap(),
        [100.0, 101.0, 0.0, 0.0, 400.0, 401.0]
    );
    assert_eq!(ours["encoder.blocks.0.attn.qkv.weight"].dims(), [6, 2]);
    assert_eq!(
        ours["encoder.blocks.0.fc.weight"].to_vec2::<f32>().unwrap(),
        [[500.0, 502.0], [501.0, 503.0]]
    );
    assert_eq!(ours["encoder.pos"].dims(), [3, 2]);
    assert_eq!(ours["encoder.class"].dims(), [1, 4]);
    assert_eq!(ours["encoder.b"].to_vec2::<f32>().unwrap(), [[7.0, 8.0], [11.0, 12.0]]);

    theirs.remove("classifier.w");
    same(&rules.to_theirs(ours.clone()).unwrap(), &theirs);
    // A trained key bias has no place in their file, its gradient is left out of a comparison.
    let mut trained = ours;
    trained.insert("encoder.blocks.0.attn.qkv.bias".into(), t(1.0, &[6]));
    let e = rules.to_theirs(trained.clone()).unwrap_err().to_string();
    assert!(e.contains("blocks.0.attn.key.bias") && e.contains("by up to 4"), "{e}");
    assert_eq!(rules.gradients_to_theirs(trained).unwrap().len(), theirs.len());
}

#[test]
fn uneven_parts() {
    let rule = |from: &[&str]| Rule::Concat {
        from: from.iter().map(|s| s.to_string()).collect(),
        to: "qkv".into(),
        dim: 0,
        shares: vec![2, 1, 1],
    };
    let rules = Rules::new(&[rule(&["q", "k", "v"])]).unwrap();
    let theirs = set(&[("q", t(0.0, &[4])), ("k", t(10.0, &[2])), ("v", t(20.0, &[2]))]);
    let ours = rules.to_ours(theirs.clone()).unwrap();
    same(&rules.to_theirs(ours).unwrap(), &theirs);
    assert!(
        rules.to_theirs(set(&[("qkv", t(0.0, &[6]))])).unwrap_err().to_string().contains("qkv: shape [6]")
    );
    assert!(Rules::new(&[rule(&["q", "k"])]).is_err());
}

#[test]
fn what_does_not_fit_is_named() {
    let qkv = Rules::new(&[Rule::concat("l.*.{q,k,v}", "l.*.qkv", 0)]).unwrap();
    let e = qkv.to_ours(set(&[("l.1.q", t(0.0, &[2])), ("l.1.v", t(0.0, &[2]))])).unwrap_err().to_string();
    assert!(e.starts_with("l.1.k: missing; l.1.qkv is made of"), "{e}");
    let e = qkv.to_ours(set(&[
        ("l.1.q", t(0.0, &[2, 2])),
        ("l.1.k", t(0.0, &[2, 3])),
        ("l.1.v", t(0.0, &[2, 2])),
    ]));
    assert!(e.unwrap_err().to_string().starts_with("l.1.k: shape [2, 3]"));
    let e = qkv.to_ours(set(&[("l.1.q", t(0.0, &[])), ("l.1.k", t(0.0, &[])), ("l.1.v", t(0.0, &[]))]));
    assert!(e.is_err());
    let e = Rules::new(&[Rule::rename("a.**", "b.**")])
        .unwrap()
        .to_ours(set(&[("a.x", t(0.0, &[1])), ("b.x", t(0.0, &[1]))]));
    assert!(e.unwrap_err().to_string().contains("b.x: two tensors"));
    let one =
        |r: Rule, t: Tensor| Rules::new(&[r]).unwrap().to_ours(set(&[("x", t)])).unwrap_err().to_string();
    assert!(one(Rule::transpose("x"), t(0.0, &[3])).starts_with("x: shape [3]"));
    assert!(one(Rule::squeeze("x", 1), t(0.0, &[3])).starts_with("x: shape [3]"));
    assert!(Rules::new(&[Rule::rename("a.*", "b")]).unwrap_err().to_string().contains("different wildcards"));
    assert!(Rules::new(&[Rule::rename("a.*", "b.**")]).is_err());
    let p = Rules::new(&[Rule::prefix("", "encoder")]).unwrap();
    let ours = p.to_ours(set(&[("a.b", t(0.0, &[1]))])).unwrap();
    assert_eq!(ours.keys().collect::<Vec<_>>(), ["encoder.a.b"]);
    assert_eq!(p.to_theirs(ours).unwrap().keys().collect::<Vec<_>>(), ["a.b"]);
}
