//! The `selfsup` command.

mod args;

#[cfg(feature = "medical")]
use args::Cache;
use args::{Cli, Data, Tokenizer, Verb};
use clap::{CommandFactory, Parser};
use selfsup::Error;
use selfsup::verbs;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some((name, value)) = selfsup_core::device::candle_pool_setting() {
        // SAFETY: the first statement of the process; no other thread exists that could read the environment.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, value);
        }
    }
    let cli = Cli::parse();
    let result = match cli.verb {
        Verb::Pretrain(a) => verbs::pretrain::run(verbs::pretrain::Request {
            args: a.args,
            data: a.data,
            method: a.method,
            encoder: a.encoder,
            out: a.folder.out,
            resume: a.folder.resume,
            allow_config_change: a.folder.allow_config_change,
            budget: a.budget.budget,
            dry_run: a.dry_run,
            probe: !a.no_probe,
        }),
        Verb::Plan(a) => verbs::plan::run(&verbs::pretrain::Request {
            args: a.args,
            data: a.data,
            method: a.method,
            encoder: a.encoder,
            budget: a.budget.budget,
            ..Default::default()
        }),
        Verb::Probe(a) => verbs::probe::run(&verbs::probe::Request {
            run: a.run,
            overrides: a.overrides,
            data: a.data,
            test: a.test,
            labels: a.labels,
            frames: a.frames.map(Option::unwrap_or_default),
            out: a.out,
            snr: a.noise.snr,
            noise: a.noise.noise,
        }),
        Verb::Finetune(a) => verbs::finetune::run(&verbs::finetune::Request {
            args: a.args,
            run: a.run,
            labels: a.labels,
            data: a.data,
            test: a.test,
            out: a.folder.out,
            resume: a.folder.resume,
            allow_config_change: a.folder.allow_config_change,
        }),
        Verb::Predict(a) => verbs::predict::run(&a.of(None)),
        Verb::Transcribe(a) => verbs::predict::run(&a.of(Some("ctc"))),
        Verb::Segment(a) => {
            let task = Some("segmentation".into());
            verbs::predict::run(&verbs::predict::Request {
                run: a.run,
                files: a.files,
                out: Some(a.out),
                task,
                folder: true,
                skip_bad: a.bad.skip_bad,
                ..Default::default()
            })
        }
        Verb::Generate(a) => verbs::generate::run(&verbs::generate::Request {
            run: a.run,
            prompt: a.prompt,
            samples: a.samples,
            tokens: a.tokens,
            temperature: a.temperature,
            top_k: a.top_k,
            top_p: a.top_p,
            cache: !a.no_cache,
            seed: a.seed,
        }),
        Verb::FillMask(a) => {
            verbs::generate::fill(&verbs::generate::FillRequest { run: a.run, text: a.text, top: a.top })
        }
        Verb::Tokenizer(Tokenizer::Train { data, out, keys }) => {
            verbs::tokenizer::run(&verbs::tokenizer::Request { data, out, keys })
        }
        Verb::Curves { runs, out } => verbs::curves::run(&runs, out.as_deref()),
        Verb::Embed(a) => verbs::embed::run(&a.run, &a.out, a.data.as_deref(), a.bad.skip_bad),
        Verb::Data(Data::List) => verbs::data::list(),
        Verb::Data(Data::Fetch { name }) => verbs::data::fetch(&name),
        Verb::Data(Data::Inspect { data }) => verbs::data::inspect(&data),
        #[cfg(feature = "medical")]
        Verb::Cache(Cache::List(a)) => verbs::cache::list(a.folder),
        #[cfg(feature = "medical")]
        Verb::Cache(Cache::Clear(a)) => verbs::cache::clear(a.folder),
        Verb::Export(a) => verbs::export::run(&a.run, a.out.as_deref(), a.layout.as_deref()),
        Verb::Pull(a) => verbs::pull::run(&a.name),
        Verb::Doctor => verbs::doctor::run(),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "selfsup", &mut script);
            selfsup::say::text(format_args!("{}", String::from_utf8_lossy(&script)));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::from(u8::from(selfsup::say::failed())),
        Err(e) => {
            let kind = if matches!(e, Error::Interrupted { .. }) { "stopped:" } else { "error:" };
            // Where the standard error is closed, the exit code alone tells.
            let _ = writeln!(std::io::stderr(), "{kind} {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
