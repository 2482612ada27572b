//! A method of one's own, rotation prediction (arXiv 1803.07728), on a folder of images.
use selfsup_vision::prelude::*;

struct Turned(Params, Box<dyn Encoder>, Linear);
// Scores `(N, 4, 4)` of each sample, turn and class; the gradient of the loss flows into what is `graph`.
embeddings! { struct Scores { graph scores: Tensor, } }

impl Objective for Turned {
    type Batch = Views;
    type Embeddings = Scores;
    fn params(&self) -> &Params {
        &self.0
    }
    fn encoder(&self) -> &dyn Encoder {
        &*self.1
    }
    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Scores> {
        let (x, across) = (batch.globals[0].contiguous()?, batch.globals[0].transpose(2, 3)?.contiguous()?);
        let turns = [x.clone(), across.flip(&[2])?, x.flip(&[2, 3])?, across.flip(&[3])?];
        let features = self.1.forward(&Tensor::stack(&turns, 1)?.flatten(0, 1)?, None, &[], pass)?.pooled;
        Ok(Scores { scores: self.2.forward(&features, pass)?.reshape(((), 4, 4))? })
    }
    fn criterion(&self, e: &Scores, _pass: &Pass) -> Result<Loss> {
        let turns = Tensor::arange(0i64, 4, e.scores.device())?.repeat(e.scores.dim(0)?)?;
        Ok(loss::cross_entropy(&e.scores.flatten(0, 1)?, &turns, 0.0)?.into())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");
    let images = ImageFolder::open(std::env::args().nth(1).unwrap_or(bundled.into()))?;
    let config = TrainConfig { epochs: 4, batch_size: 16, workers: 2, ..TrainConfig::default() };
    let views = AugmentConfig { size: 16, ..AugmentConfig::default() }.views(Wanted::Plain, 3, MAX_PIXELS)?;
    let scope = Scope::root(&Params::new(), config.seed, &Device::Cpu);
    let encoder = EncoderConfig::default().build(&scope.sub("encoder"), 16)?; // ResNet-18
    let head = Linear::new(&scope.sub("head"), encoder.dim(), 4, true, Init::TorchLinear)?;
    let (turned, batches) = (Turned(scope.params().clone(), encoder, head), images.loader(views, &config)?);
    eprintln!("{}", train(&turned, &batches, &config, &OptimConfig::default(), "runs/turned")?.shown_loss());
    Ok(())
}
