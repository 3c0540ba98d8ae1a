//! Colours to sRGB, by what a file says of them: ICC profiles, and in PNG files code points (cICP) or gamma and
//! chromaticities (gAMA, cHRM).

use std::sync::{Arc, Mutex, PoisonError};

use image::{DynamicImage, ImageDecoder, ImageFormat};
use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, DataColorSpace, Layout,
    MatrixCoefficients, ProfileText, RenderingIntent, ToneReprCurve, TransferCharacteristics,
    Transform8BitExecutor, TransformExecutor, TransformOptions,
};

use super::{Note, png};

/// What a file says of its colours.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Profile {
    /// An ICC profile.
    Icc(Vec<u8>),
    /// Primaries and transfer by code points (ITU-T H.273).
    CodePoints { primaries: u8, transfer: u8 },
    /// The exponent of encoding, and white, red, green and blue (x, y).
    Gamma { gamma: Option<f64>, chromaticities: Option<[[f32; 2]; 4]> },
}

/// What a file says of its colours, if it does. In a PNG file the first of cICP, iCCP, sRGB, and gAMA with cHRM counts
/// (third edition, section 4.3).
pub(super) fn find(format: ImageFormat, bytes: &[u8], decoder: &mut impl ImageDecoder) -> Option<Profile> {
    let icc = |decoder: &mut dyn FnMut() -> Option<Vec<u8>>| {
        decoder().filter(|icc| !icc.is_empty()).map(Profile::Icc)
    };
    let mut read_icc = || decoder.icc_profile().ok().flatten();
    if format != ImageFormat::Png {
        return icc(&mut read_icc);
    }
    let chunk =
        |kind: &[u8; 4]| png::chunks(bytes).find(|(found, _)| *found == kind).map(|(_, content)| content);
    if let Some(&[primaries, transfer, 0, _]) = chunk(b"cICP") {
        return Some(Profile::CodePoints { primaries, transfer });
    }
    if chunk(b"iCCP").is_some() {
        return icc(&mut read_icc);
    }
    if chunk(b"sRGB").is_some() {
        return None;
    }
    let number = |bytes: &[u8; 4]| f64::from(u32::from_be_bytes(*bytes)) / 100_000.0;
    let gamma =
        chunk(b"gAMA").and_then(|content| content.first_chunk()).map(number).filter(|gamma| *gamma > 0.0);
    let chromaticities = chunk(b"cHRM").and_then(|content| {
        let numbers = content.as_chunks::<4>().0;
        let point = |at: usize| Some([number(numbers.get(at)?) as f32, number(numbers.get(at + 1)?) as f32]);
        Some([point(0)?, point(2)?, point(4)?, point(6)?])
            .filter(|points| points.iter().all(|[_, y]| *y > 0.0))
    });
    (gamma.is_some() || chromaticities.is_some()).then_some(Profile::Gamma { gamma, chromaticities })
}

/// A conversion to sRGB.
#[derive(Clone)]
struct Conversion {
    name: String,
    source: Arc<ColorProfile>,
    /// From the channels that the profile has to RGB.
    transform: Arc<Transform8BitExecutor>,
    /// Whether it leaves every colour as it is, but for rounding.
    is_identity: bool,
}

/// Profiles that were met last: photographs of a folder share theirs, and reading one takes longer than a small image.
static KNOWN: Mutex<Vec<(Profile, Result<Conversion, String>)>> = Mutex::new(Vec::new());

/// How many profiles are remembered.
const MOST_KNOWN: usize = 8;

/// By how much (of 255) a conversion may change colours and still be none. A profile of sRGB itself is written with
/// rounded numbers.
const ROUNDING: u8 = 2;

/// Converts the image, if there is anything to convert, and says so.
pub(super) fn convert(image: &mut DynamicImage, profile: &Profile) -> Option<Note> {
    let conversion = match conversion(profile) {
        Ok(conversion) => conversion,
        Err(reason) => return Some(Note::ProfileUnusable(reason)),
    };
    if conversion.is_identity {
        return None;
    }
    match conversion.apply(image) {
        Ok(converted) => {
            *image = converted;
            Some(Note::ProfileConverted(conversion.name))
        }
        Err(reason) => Some(Note::ProfileUnusable(reason)),
    }
}

fn conversion(profile: &Profile) -> Result<Conversion, String> {
    let lock = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = lock().iter().find(|(known, _)| known == profile) {
        return known.clone();
    }
    let made = profile.read().and_then(|(source, name)| Conversion::new(source, name));
    let mut known = lock();
    if known.len() == MOST_KNOWN {
        drop(known.remove(0));
    }
    known.push((profile.clone(), made.clone()));
    made
}

impl Profile {
    /// As the colour management has it, and its name.
    fn read(&self) -> Result<(ColorProfile, String), String> {
        let mut rgb = ColorProfile::new_srgb();
        match self {
            Self::Icc(bytes) => {
                let profile = ColorProfile::new_from_slice(bytes).map_err(|error| error.to_string())?;
                let name = name(&profile).unwrap_or_else(|| "its own colour space".into());
                Ok((profile, name))
            }
            Self::CodePoints { primaries, transfer } => {
                let unknown = |_| "unknown code points".to_owned();
                let code_points = CicpProfile {
                    color_primaries: CicpColorPrimaries::try_from(*primaries).map_err(unknown)?,
                    transfer_characteristics: TransferCharacteristics::try_from(*transfer)
                        .map_err(unknown)?,
                    matrix_coefficients: MatrixCoefficients::Identity,
                    full_range: true,
                };
                rgb.cicp = None;
                rgb.update_rgb_colorimetry_from_cicp(code_points);
                if rgb.cicp.is_none() {
                    return Err("code points without colours".into());
                }
                let name = match (primaries, transfer) {
                    (9, _) => "BT.2020".into(),
                    (11 | 12, _) => "Display P3".into(),
                    _ => format!("the colours of cICP {primaries}/{transfer}"),
                };
                Ok((rgb, name))
            }
            Self::Gamma { gamma, chromaticities } => {
                if let Some([white, red, green, blue]) =
                    chromaticities.map(|points| points.map(|[x, y]| Chromaticity::new(x, y)))
                {
                    rgb.update_rgb_colorimetry(white.to_xyyb(), ColorPrimaries { red, green, blue });
                }
                rgb.cicp = None;
                // 1/2.2 is what the chunk holds in files in sRGB, whose curve is no power.
                if let Some(gamma) = gamma.filter(|gamma| (gamma - 1.0 / 2.2).abs() > 0.02) {
                    let curve = Some(ToneReprCurve::Parametric(vec![(1.0 / gamma) as f32]));
                    (rgb.red_trc, rgb.green_trc, rgb.blue_trc) = (curve.clone(), curve.clone(), curve);
                }
                Ok((rgb, "the colours of gAMA and cHRM".into()))
            }
        }
    }
}

/// The name that a profile gives itself.
fn name(profile: &ColorProfile) -> Option<String> {
    let text = match profile.description.as_ref()? {
        ProfileText::PlainString(text) => text.clone(),
        ProfileText::Localizable(all) => all.first()?.value.clone(),
        ProfileText::Description(text) => text.ascii_string.clone(),
    };
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
    (!text.is_empty()).then_some(text)
}

fn options() -> TransformOptions {
    TransformOptions {
        rendering_intent: RenderingIntent::RelativeColorimetric,
        ..TransformOptions::default()
    }
}

impl Conversion {
    fn new(source: ColorProfile, name: String) -> Result<Self, String> {
        if !matches!(source.color_space, DataColorSpace::Rgb | DataColorSpace::Gray) {
            return Err(format!("{name} is a profile of neither RGB nor grey images"));
        }
        let transform =
            source.create_transform_8bit(layout(&source), &ColorProfile::new_srgb(), Layout::Rgb, options());
        let transform = transform.map_err(|error| error.to_string())?;
        let mut conversion = Self { name, source: Arc::new(source), transform, is_identity: false };
        let colours: Vec<u8> = if conversion.is_grey() {
            (0..=255).flat_map(|grey| [grey; 3]).collect()
        } else {
            let steps = [0, 30, 70, 120, 170, 215, 255];
            let pairs = steps.into_iter().flat_map(|r| steps.map(|g| [r, g]));
            pairs.flat_map(|[r, g]| steps.map(|b| [r, g, b])).flatten().collect()
        };
        let converted = conversion.run(&colours, &*conversion.transform)?;
        conversion.is_identity = colours.iter().zip(&converted).all(|(a, b)| a.abs_diff(*b) <= ROUNDING);
        Ok(conversion)
    }

    fn is_grey(&self) -> bool {
        self.source.color_space == DataColorSpace::Gray
    }

    fn apply(&self, image: &DynamicImage) -> Result<DynamicImage, String> {
        let colour = image.color();
        if self.is_grey() && colour.has_color() {
            return Err(format!("{} is a profile of grey images", self.name));
        }
        // In 16 bits, if there are so many, until the colours are sRGB: the dark ones of a linear image have few steps.
        if colour.bytes_per_pixel() / colour.channel_count() > 1 {
            let (source, srgb) = (layout(&self.source), ColorProfile::new_srgb());
            let transform = self.source.create_transform_16bit(source, &srgb, Layout::Rgb, options());
            let transform = transform.map_err(|error| error.to_string())?;
            let mut rgba = image.to_rgba16();
            let colours: Vec<u16> = rgba.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
            replace_colours(rgba.pixels_mut().map(|pixel| &mut pixel.0), &self.run(&colours, &*transform)?);
            let rgba = DynamicImage::from(rgba);
            return Ok(if colour.has_alpha() { rgba } else { rgba.into_rgb16().into() });
        }
        if colour.has_alpha() {
            let mut rgba = image.to_rgba8();
            let colours: Vec<u8> = rgba.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
            replace_colours(
                rgba.pixels_mut().map(|pixel| &mut pixel.0),
                &self.run(&colours, &*self.transform)?,
            );
            return Ok(rgba.into());
        }
        let pixels = self.run(image.to_rgb8().as_raw(), &*self.transform)?;
        let converted = image::RgbImage::from_raw(image.width(), image.height(), pixels);
        Ok(converted.ok_or("too few pixels")?.into())
    }

    /// RGB colours converted; a profile of grey images gets the first of three equal numbers.
    fn run<T: Copy + Default>(
        &self,
        colours: &[T],
        transform: &(dyn TransformExecutor<T> + Send + Sync),
    ) -> Result<Vec<T>, String> {
        let mut converted = vec![T::default(); colours.len()];
        let result = if self.is_grey() {
            let grey: Vec<T> = colours.iter().copied().step_by(3).collect();
            transform.transform(&grey, &mut converted)
        } else {
            transform.transform(colours, &mut converted)
        };
        result.map(|()| converted).map_err(|error| error.to_string())
    }
}

/// What a profile's transform takes.
fn layout(source: &ColorProfile) -> Layout {
    if source.color_space == DataColorSpace::Gray { Layout::Gray } else { Layout::Rgb }
}

fn replace_colours<'a, T: Copy + 'a>(pixels: impl Iterator<Item = &'a mut [T; 4]>, colours: &[T]) {
    for (pixel, colour) in pixels.zip(colours.as_chunks::<3>().0) {
        pixel[..3].copy_from_slice(colour);
    }
}

/// A profile of inks.
pub(super) struct Inks {
    source: ColorProfile,
    /// The name that it gives itself.
    pub name: String,
}

impl Inks {
    pub fn new(icc: &[u8]) -> Result<Self, String> {
        let source = ColorProfile::new_from_slice(icc).map_err(|error| error.to_string())?;
        let name = name(&source).unwrap_or_else(|| "inks".into());
        if source.color_space != DataColorSpace::Cmyk {
            return Err(format!("{name} is not a profile of CMYK images"));
        }
        Ok(Self { source, name })
    }

    /// Inks (C, M, Y, K; 255 is all of one) to RGB.
    pub fn to_srgb(&self, inks: &[u8]) -> Result<Vec<u8>, String> {
        let mut rgb = vec![0; inks.len() / 4 * 3];
        // Perceptual: inks cannot show all that a screen does, and their profiles have a table for that.
        let options = TransformOptions::default();
        let transform =
            self.source.create_transform_8bit(Layout::Rgba, &ColorProfile::new_srgb(), Layout::Rgb, options);
        transform
            .and_then(|transform| transform.transform(inks, &mut rgb))
            .map_err(|error| error.to_string())?;
        Ok(rgb)
    }
}
