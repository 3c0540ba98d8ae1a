//! Times rten and tract: `relievo-bench-peers GRAPH.onnx VALUES COUNT THREADS SECONDS`.
//!
//! VALUES has an input of COUNT images `[3,64,64]` and the results that are right, one after the other, as f32. Prints JSON:
//! for each program the median in seconds, measured as bench/timing.py does, or what went wrong.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use tract_onnx::prelude::*;

/// By how much a result may be off.
const TOLERANCE: f32 = 3e-3;

fn median(seconds: f64, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while times.len() < 3 || Instant::now() < end {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok((times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0)
}

fn check(results: &[f32], right: &[f32]) -> Result<()> {
    ensure!(results.len() == right.len(), "{} results, not {}", results.len(), right.len());
    let off = results.iter().zip(right).map(|(got, right)| (got - right).abs()).fold(0.0, f32::max);
    ensure!(off <= TOLERANCE, "a result is off by {off}");
    Ok(())
}

fn rten(graph: &Path, shape: [usize; 4], image: &[f32], right: &[f32], seconds: f64) -> Result<f64> {
    let model = rten::Model::load_file(graph)?;
    let input = model.input_ids()[0];
    let outputs = model.output_ids();
    let image = NdTensor::from_data(shape, image.to_vec());
    let run = || model.run(vec![(input, image.view().into())], outputs, None);
    let mut results = Vec::new();
    for result in run()? {
        let result: rten_tensor::Tensor<f32> = result.try_into()?;
        results.extend(result.iter());
    }
    check(&results, right)?;
    median(seconds, || {
        run()?;
        Ok(())
    })
}

fn tract(graph: &Path, shape: [usize; 4], image: &[f32], right: &[f32], seconds: f64) -> Result<f64> {
    let model = tract_onnx::onnx()
        .model_for_path(graph)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_optimized()?
        .into_runnable()?;
    let image = Tensor::from_shape(&shape, image)?;
    let run = || model.run(tvec!(image.clone().into()));
    let mut results = Vec::new();
    for result in run()? {
        results.extend(result.to_plain_array_view::<f32>()?.iter());
    }
    check(&results, right)?;
    median(seconds, || {
        run()?;
        Ok(())
    })
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [graph, values, count, threads, seconds] = &arguments[..] else {
        anyhow::bail!("usage: relievo-bench-peers GRAPH.onnx VALUES COUNT THREADS SECONDS")
    };
    let (graph, seconds) = (Path::new(graph), seconds.parse()?);
    // SAFETY: nothing else runs yet. rten reads it when it first computes.
    unsafe { std::env::set_var("RTEN_NUM_THREADS", threads) };
    let workers: usize = threads.parse()?;
    tract_linalg::multithread::set_default_executor(tract_linalg::multithread::Executor::multithread(
        workers,
    ));
    let bytes = std::fs::read(values).with_context(|| values.clone())?;
    let (values, _) = bytes.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let shape = [count.parse()?, 3, 64, 64];
    let (image, right) = values.split_at(shape.iter().product());
    let told = |result: Result<f64>| {
        result.map_or_else(|error| format!("{error:#}").into(), serde_json::Value::from)
    };
    let result = serde_json::json!({
        "rten": told(rten(graph, shape, image, right, seconds)),
        "tract": told(tract(graph, shape, image, right, seconds)),
    });
    println!("{result}");
    Ok(())
}
