use super::layout::{Layout, Part};
use super::*;
use crate::{Buffer, BufferId, CodeVariant, Location, Partition, Port, Program, Step, WeightRange};
use kiln_tensor::{DType, Dim};
use proptest::prelude::*;
use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

fn program() -> Program {
    let n = Dim::named("n");
    let buffer = |location| Buffer {
        dtype: DType::F32,
        shape: vec![n.clone(), n.clone().floor_div(&Dim::from(3i64))],
        location,
    };
    Program {
        name: "test".into(),
        inputs: vec![Port { name: "x".into(), buffer: BufferId(0) }],
        outputs: vec![Port { name: "y".into(), buffer: BufferId(1) }],
        buffers: vec![buffer(Location::Input(0)), buffer(Location::Output(0))],
        steps: vec![Step::Copy { from: BufferId(0), to: BufferId(1) }],
        ..Program::default()
    }
}

fn code() -> Vec<CodeVariant> {
    let variant = |features: &[&str], objects: &[&[u8]]| CodeVariant {
        architecture: Architecture::X86_64,
        features: features.iter().map(|&f| f.to_owned()).collect(),
        objects: objects.iter().map(|&o| o.to_vec()).collect(),
        partitions: vec![Partition { tasks: Dim::named("n"), scratch: Dim::from(64i64) }],
    };
    vec![variant(&["avx2"], &[&[1; 100], b"shared"]), variant(&[], &[b"shared", b""])]
}

const WEIGHTS: [(u64, &[u8]); 3] = [(0, &[1; 10]), (64, &[2; 64]), (256, &[3; 1000])];

fn weights() -> impl Iterator<Item = (WeightRange, Cow<'static, [u8]>)> {
    WEIGHTS.into_iter().map(|(offset, bytes)| {
        (WeightRange { offset, length: bytes.len() as u64 }, Cow::Borrowed(bytes))
    })
}

fn bytes_of(program: &Program) -> Vec<u8> {
    let (code, notes) = (code(), BTreeMap::from([("target".to_owned(), "x86-64-v3".to_owned())]));
    let contents = Contents { program, code: &code, notes: &notes };
    let mut file = Cursor::new(Vec::new());
    write::write_to(&mut file, contents, weights(), Path::new("memory")).unwrap();
    file.into_inner()
}

fn open(bytes: &[u8]) -> Result<Artefact, ArtefactError> {
    Artefact::from_bytes(Arc::new(bytes.to_vec()))
}

fn error_of(bytes: &[u8]) -> String {
    match open(bytes) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.kiln");
    std::fs::write(&path, "something old").unwrap();
    let (program, code, notes) = (program(), code(), BTreeMap::new());
    let contents = Contents { program: &program, code: &code, notes: &notes };
    super::write(&path, contents, weights()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");

    let artefact = Artefact::open(&path).unwrap();
    assert_eq!(artefact.program(), &program);
    let read: Vec<_> = artefact.code().collect();
    assert_eq!(read.len(), code.len());
    for (read, written) in read.iter().zip(&code) {
        assert_eq!(read.architecture, written.architecture);
        assert_eq!(read.features, written.features);
        assert_eq!(read.objects, written.objects);
    }
    let all = artefact.weights();
    for (offset, bytes) in WEIGHTS {
        assert_eq!(&all[offset as usize..offset as usize + bytes.len()], bytes);
    }
    assert_eq!(all.len(), 1256);
    assert_eq!(all.as_ptr() as usize % 64, 0, "mapped weights are aligned");
    artefact.verify().unwrap();
}

#[test]
fn equal_contents_give_equal_bytes() {
    assert_eq!(bytes_of(&program()), bytes_of(&program()));
}

#[test]
fn weights_out_of_order_are_refused() {
    let (program, notes) = (program(), BTreeMap::new());
    let contents = Contents { program: &program, code: &[], notes: &notes };
    for ranges in [&[(64, 4), (0, 4)][..], &[(0, 65), (64, 4)], &[(4, 4)]] {
        let pieces = ranges.iter().map(|&(offset, length)| {
            (WeightRange { offset, length }, Cow::Owned(vec![0; length as usize]))
        });
        let mut file = Cursor::new(Vec::new());
        let error = write::write_to(&mut file, contents, pieces, Path::new("memory")).unwrap_err();
        assert!(matches!(error, ArtefactError::Unrepresentable(_)), "{error}");
    }
}

#[test]
fn other_files_and_versions_are_told_apart() {
    let bytes = bytes_of(&program());
    assert!(error_of(b"").contains("not a compiled Kiln model"));
    assert!(error_of(b"\x7fELF and so on").contains("not a compiled Kiln model"));
    let mut newer = bytes.clone();
    newer[8] = VERSION as u8 + 1;
    assert!(error_of(&newer).contains(&format!("version {}", VERSION + 1)));
    assert!(error_of(&bytes[..100]).contains("cut off"));
    assert!(error_of(&bytes[..bytes.len() - 1]).contains("instead of"));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(error_of(&longer).contains("instead of"));
    assert!(matches!(
        Artefact::open(Path::new("/nowhere/model.kiln")),
        Err(ArtefactError::Io { .. })
    ));
    assert!(matches!(Artefact::open(Path::new("/dev")), Err(ArtefactError::NotAnArtefact)));
}

/// The same file with another section in place of one, all checksums right.
fn forged(part: Part, section: &[u8]) -> Vec<u8> {
    let bytes = bytes_of(&program());
    let before = Layout::decode(&bytes).unwrap();
    let part_bytes = |other: Part| match other == part {
        true => section,
        false => &bytes[before.section(other).range().unwrap()],
    };
    let lengths = Part::ALL.map(|other| part_bytes(other).len() as u64);
    let mut layout = Layout::of_lengths(lengths).unwrap();
    for other in Part::ALL {
        layout.sections[other as usize].checksum = xxh3_64(part_bytes(other));
    }
    let mut file = layout.encode().to_vec();
    for other in Part::ALL {
        file.resize(layout.section(other).offset as usize, 0);
        file.extend_from_slice(part_bytes(other));
    }
    file
}

#[test]
fn forged_sections_neither_crash_nor_take_memory() {
    // One-element arrays in each other; arrays and strings that claim 2^32 - 1 elements.
    let nested = [0x91; 100_000];
    let huge = [[0xdd, 0xff, 0xff, 0xff, 0xff]; 1000].concat();
    let string = [0x9f, 0xdb, 0xff, 0xff, 0xff, 0xff, 0];
    for part in [Part::Program, Part::Manifest] {
        for section in [&nested[..], &huge, &string, b""] {
            let message = error_of(&forged(part, section));
            assert!(message.contains(&format!("damaged ({}", part.name())), "{message}");
        }
    }
    // A dimension within a dimension, a hundred thousand deep.
    let mut deep = program();
    let (prefix, suffix) = (rmp_serde::to_vec(&deep).unwrap(), Vec::<u8>::new());
    assert!(open(&forged(Part::Program, &[prefix, suffix].concat())).is_ok());
    for _ in 0..200 {
        let dim = deep.buffers[0].shape[0].clone() + Dim::from(1i64);
        deep.buffers[0].shape[0] = dim.floor_div(&Dim::named("d"));
    }
    let message = error_of(&forged(Part::Program, &rmp_serde::to_vec(&deep).unwrap()));
    assert!(message.contains("damaged (program"), "{message}");

    let outside = Manifest {
        variants: vec![VariantEntry {
            architecture: Architecture::X86_64,
            features: vec![],
            objects: vec![(u64::MAX, 2)],
            partitions: vec![],
        }],
        notes: BTreeMap::new(),
    };
    let message = error_of(&forged(Part::Manifest, &rmp_serde::to_vec(&outside).unwrap()));
    assert!(message.contains("an object lies outside"), "{message}");
}

/// Section tables with right checksums and wrong places.
#[test]
fn forged_tables_are_refused() {
    let bytes = bytes_of(&program());
    let layout = Layout::decode(&bytes).unwrap();
    let numbers = [0, 1, 63, 64, u64::MAX, u64::MAX - 64, 1 << 63];
    for part in Part::ALL {
        for number in numbers {
            for field in 0..2 {
                let mut other = layout;
                let section = &mut other.sections[part as usize];
                let slot = if field == 0 { &mut section.offset } else { &mut section.length };
                if std::mem::replace(slot, number) == number {
                    continue;
                }
                let mut file = bytes.clone();
                file[..other.encode().len()].copy_from_slice(&other.encode());
                assert!(open(&file).is_err(), "{part:?} {field} {number}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Every change outside the weights is an error on opening; inside them, `verify` finds it.
    #[test]
    fn damage_is_always_found(
        place in any::<prop::sample::Index>(),
        flip in 1u8..,
        cut in prop::bool::weighted(0.2),
    ) {
        thread_local! {
            static SOUND: Vec<u8> = bytes_of(&program());
        }
        let mut bytes = SOUND.with(Clone::clone);
        let weights = Layout::decode(&bytes).unwrap().section(Part::Weights).offset as usize;
        let place = place.index(bytes.len());
        if cut {
            bytes.truncate(place);
            prop_assert!(open(&bytes).is_err());
        } else {
            bytes[place] ^= flip;
            match open(&bytes) {
                Ok(artefact) => {
                    prop_assert!(place >= weights);
                    prop_assert!(artefact.verify().is_err());
                }
                Err(_) => prop_assert!(place < weights),
            }
        }
    }
}
