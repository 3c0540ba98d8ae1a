//! `relievo reconstruct --together`: one object out of all images.

use std::path::PathBuf;

use anyhow::{Context, bail};
use relievo::{Doubt, ImageInput, MOST_TOGETHER, OutputOptions, Reconstructor, Together, result_stem};
use relievo_data::DecodeOptions;

use crate::console::{Console, counted};
use crate::faces::{Job, Task, skipped};

/// The name of results of several inputs.
const NAME: &str = "together";

/// Writes one object out of all images of the job; `paths` are those that were given.
pub(super) fn run(
    job: &Job<'_>,
    paths: &[PathBuf],
    output: &OutputOptions,
    console: &Console,
) -> anyhow::Result<()> {
    let (found, names, failed) = match &job.tasks[..] {
        [task] => animation(task, &job.reconstructor, console)?,
        tasks => images(tasks, &job.reconstructor, console)?,
    };
    warn(&found, &names, job.tasks.len() > 1, console);
    let stem = match (paths, &job.tasks[..]) {
        ([path], tasks) if tasks.len() > 1 => path.canonicalize().ok().and_then(|path| {
            let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
            Some(result_stem(&name?.to_string_lossy()))
        }),
        ([_], [task]) => Some(task.stem.clone()),
        _ => None,
    };
    let stem = stem.unwrap_or_else(|| NAME.to_owned());
    let first = found.write(job.folder.path(), &stem, &names, output)?;
    job.folder.mark()?;
    let used = found.photographs.len() as u64;
    let left = job.skipped + failed;
    let left = if left > 0 { format!(", {left} left out (named above)") } else { String::new() };
    let folder = job.folder.path().display();
    console.note(format_args!("one object from {} in {folder}{left}", counted(used, "image")));
    if let Some(first) = first {
        console.result(format_args!("open {}", first.display()));
    }
    Ok(())
}

/// Says what speaks against the result.
fn warn(found: &Together, names: &[String], several: bool, console: &Console) {
    let photographs = &found.photographs;
    if let ([only], true) = (&photographs[..], several) {
        let name = &names[only.number];
        console.warning(format_args!("only {name} can be used: this is what it shows alone"));
    }
    let does_not_fit = |photograph: &&relievo::Photograph| {
        photograph.reconstruction.quality().doubts.contains(&Doubt::AnotherObject)
    };
    let strange = photographs.iter().filter(does_not_fit).count();
    if 2 * strange >= photographs.len() && strange > 0 {
        console.warning(format_args!(
            "the images do not fit each other: {strange} of {} are explained much worse together than alone; do they \
             show one object?",
            photographs.len()
        ));
    }
    for photograph in photographs {
        for doubt in &photograph.reconstruction.quality().doubts {
            console.warning(format_args!("{}: {doubt}", names[photograph.number]));
        }
    }
}

/// An object, the names of the images it was made from, and how many of those could not be used: they are named.
type Found = (Together, Vec<String>, usize);

/// The object that many images show.
fn images(tasks: &[Task<'_>], reconstructor: &Reconstructor, console: &Console) -> anyhow::Result<Found> {
    let chosen: Vec<&Task<'_>> = spread(tasks.len()).map(|number| &tasks[number]).collect();
    let all = counted(tasks.len() as u64, "image");
    if chosen.len() < tasks.len() {
        console.note(format_args!("{} of {all} are used, spread evenly: no more go together", chosen.len()));
    }
    let inputs = chosen.iter().map(|task| ImageInput::from_loader(move || task.load()));
    let mut found = match reconstructor.reconstruct_together(inputs) {
        Ok(found) => found,
        Err(error) => {
            let reason = skipped(error, chosen[0])?;
            bail!("none of {all} can be used; the first: {reason}");
        }
    };
    let errors = std::mem::take(&mut found.skipped);
    let failed = errors.len();
    for (number, error) in errors {
        console.warning(format_args!("skipped: {}", skipped(error, chosen[number])?));
    }
    for task in &chosen {
        for note in task.notes.get().into_iter().flatten().filter(|note| note.is_warning()) {
            console.warning(format_args!("{}: {note}", task.location()));
        }
    }
    Ok((found, chosen.iter().map(|task| task.name.clone()).collect(), failed))
}

/// The object that the frames of an animation show, or a single image.
fn animation(task: &Task<'_>, reconstructor: &Reconstructor, console: &Console) -> anyhow::Result<Found> {
    let options = DecodeOptions::lenient().within(task.max_memory);
    let (frames, count) = task.images.frames(task.index, MOST_TOGETHER, &options)?;
    let used = frames.len();
    if used <= 1 {
        console.warning("a single image: there is nothing to explain together");
        return images(std::slice::from_ref(task), reconstructor, console);
    }
    if used < count {
        let all = counted(count as u64, "frame");
        console.note(format_args!("{used} of {all} are used, spread evenly: no more go together"));
    }
    let names: Vec<String> =
        (0..used).map(|frame| format!("{}#{}", task.name, frame * count / used)).collect();
    let found = reconstructor.reconstruct_together(&frames).with_context(|| task.location())?;
    for (number, error) in &found.skipped {
        console.warning(format_args!("skipped: {}: {error}", names[*number]));
    }
    let failed = found.skipped.len();
    Ok((found, names, failed))
}

/// Numbers of at most [`MOST_TOGETHER`] of `count` images, spread evenly.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let used = count.min(MOST_TOGETHER);
    (0..used).map(move |number| number * count / used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_images_some_are_used_that_lie_evenly_among_them() {
        assert_eq!(spread(3).collect::<Vec<_>>(), [0, 1, 2]);
        let some: Vec<usize> = spread(10_000).collect();
        assert_eq!((some.len(), some[0], some[1], some[63]), (64, 0, 156, 9843));
    }
}
