use super::*;

const HEADER: &str = include_str!("../../../bpf/memleak.h");

/// Value of a constant or enumerator in the contract.
fn contract(name: &str) -> u64 {
    let after = HEADER
        .lines()
        .find_map(|line| {
            line.trim_start()
                .strip_prefix("#define ")
                .unwrap_or(line.trim_start())
                .strip_prefix(name)?
                .strip_prefix([' ', '='])
        })
        .unwrap_or_else(|| panic!("{name} is not in bpf/memleak.h"));
    let digits: String = after
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

/// The numbers here are those of the header that the probes are compiled with.
#[test]
fn numbers_are_those_of_the_contract() {
    for (index, op) in OPS.iter().enumerate() {
        let name = format!("ML_OP_{}", op.name().to_uppercase());
        assert_eq!(contract(&name), index as u64 + 1, "{name}");
    }
    for (index, end) in ENDS.iter().enumerate() {
        let name = format!("ML_END_{}", end.name().to_uppercase());
        assert_eq!(contract(&name), index as u64, "{name}");
    }
    let shapes = [
        ("ML_RECORD_POINT", RECORD_POINT),
        ("ML_RECORD_RANGE", RECORD_RANGE),
        ("ML_RECORD_ALLOC", RECORD_ALLOC),
        ("ML_RECORD_STACK", RECORD_STACK),
        ("ML_RECORD_EXEC", RECORD_EXEC),
        ("ML_RECORD_FORK", RECORD_FORK),
        ("ML_RECORD_EXIT", RECORD_EXIT),
        ("ML_RECORD_SAMPLE", RECORD_SAMPLE),
    ];
    for (name, value) in shapes {
        assert_eq!(contract(name), u64::from(value), "{name}");
    }
    assert_eq!(contract("ML_STACK_HEAD"), STACK_HEAD_BYTES as u64);
    assert_eq!(contract("ML_SAMPLE_HEAD"), SAMPLE_HEAD_BYTES as u64);
    assert_eq!(
        contract("ML_FRAME_OFFSET_BITS"),
        u64::from(memleak_trace::stack::OFFSET_BITS)
    );
}

fn head(record: u16, op: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(record.to_ne_bytes());
    bytes.extend(op.to_ne_bytes());
    for word in [1u32, 20, 21] {
        bytes.extend(word.to_ne_bytes());
    }
    for word in [1_000_000_007u64, 0x7f00_0000_1000] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// An allocation keeps every field.
#[test]
fn decodes_an_allocation() {
    let mut bytes = head(RECORD_ALLOC, 1);
    bytes.extend(4096u64.to_ne_bytes());
    bytes.extend(99u64.to_ne_bytes());
    assert_eq!(bytes.len(), ALLOC_BYTES);
    assert_eq!(
        decode(&bytes),
        Ok(Record::Event(RawEvent {
            op: Op::Malloc,
            space: 1,
            pid: 20,
            tid: 21,
            ts: 1_000_000_007,
            addr: 0x7f00_0000_1000,
            size: 4096,
            stack: Some(StackHash(99)),
        }))
    );
}

/// A stack has exactly as many frames as it says.
#[test]
fn decodes_a_stack() {
    let mut bytes = Vec::new();
    bytes.extend(RECORD_STACK.to_ne_bytes());
    bytes.extend(2u16.to_ne_bytes());
    for word in [2u32, 20, 1] {
        bytes.extend(word.to_ne_bytes());
    }
    for word in [7u64, 0xdead, 1 << 40, 2 << 40] {
        bytes.extend(word.to_ne_bytes());
    }
    let Ok(Record::Stack(stack)) = decode(&bytes) else {
        panic!("no stack")
    };
    assert_eq!(stack.frames, [FrameId(1 << 40), FrameId(2 << 40)]);
    assert_eq!(stack.end, StackEnd::NoUnwindInfo);
    assert_eq!(decode(&bytes[..bytes.len() - 1]), Err(WireError::Short(47)));
}

/// A sample has as many bytes of stack as it says; other records are none.
#[test]
fn decodes_a_sample() {
    let mut bytes = Vec::new();
    bytes.extend(RECORD_SAMPLE.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(3u32.to_ne_bytes());
    for word in [7u64, 0x401000, 0x7ffe_0000, 0x7ffe_0010] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(b"abcdef");
    let sample = decode_sample(&bytes).unwrap();
    assert_eq!(
        (sample.hash, sample.rip, sample.rsp, sample.rbp),
        (StackHash(7), 0x401000, 0x7ffe_0000, 0x7ffe_0010)
    );
    assert_eq!(sample.stack, b"abc");
    assert_eq!(decode_sample(&bytes[..42]), None);
    assert_eq!(decode_sample(&head(RECORD_POINT, 8)), None);
}

/// Valid records with changed, missing and added bytes: an error or a record, never a panic.
#[test]
fn takes_any_bytes() {
    let mut stack = head(RECORD_STACK, 0);
    stack[4..8].copy_from_slice(&20u32.to_ne_bytes());
    stack.resize(STACK_HEAD_BYTES + 20 * 8, 7);
    let mut alloc = head(RECORD_ALLOC, 1);
    alloc.resize(ALLOC_BYTES, 9);
    let records = [
        head(RECORD_POINT, 8),
        alloc,
        stack,
        head(RECORD_EXEC, 0),
        head(RECORD_FORK, 0),
        head(RECORD_EXIT, 1),
    ];
    // SplitMix64; the seed is any number.
    let mut state = 2026u64;
    let mut random = |limit: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    };
    let mut decoded = 0;
    for _ in 0..200_000 {
        let mut bytes = records[random(records.len())].clone();
        for _ in 0..random(4) {
            let at = random(bytes.len());
            bytes[at] = [0, 1, 0x7f, 0xff, random(256) as u8][random(5)];
        }
        bytes.resize(random(bytes.len() + 16), 0xff);
        decoded += usize::from(decode(&bytes).is_ok());
        let _ = decode_sample(&bytes);
    }
    assert!(decoded > 1000, "{decoded}");
}

/// A fork has both processes and both address spaces; an exit has the status.
#[test]
fn decodes_processes() {
    let mut fork = head(RECORD_FORK, 0);
    fork[24..].copy_from_slice(&7u64.to_ne_bytes());
    assert_eq!(
        decode(&fork),
        Ok(Record::Fork(RawFork {
            pid: 20,
            ppid: 21,
            space: 1,
            parent_space: 7,
            ts: 1_000_000_007,
        }))
    );
    let mut exit = head(RECORD_EXIT, 1);
    exit[24..].copy_from_slice(&(3u64 << 8).to_ne_bytes());
    assert_eq!(
        decode(&exit),
        Ok(Record::Exit(RawExit {
            pid: 20,
            space: 1,
            status: 3 << 8,
            out_of_memory: true,
            ts: 1_000_000_007,
        }))
    );
}

/// No bytes panic; what is no record is an error.
#[test]
fn refuses_what_is_no_record() {
    assert_eq!(decode(&[]), Err(WireError::Short(0)));
    assert_eq!(decode(&[9; 64]), Err(WireError::Shape(0x0909)));
    assert_eq!(decode(&head(RECORD_POINT, 0)), Err(WireError::Op(0)));
    assert_eq!(decode(&head(RECORD_POINT, 31)), Err(WireError::Op(31)));
    assert_eq!(decode(&head(RECORD_ALLOC, 1)), Err(WireError::Short(32)));
    for length in 0..200 {
        for shape in 0..10u8 {
            let mut bytes = vec![0xff; length];
            if let Some(first) = bytes.first_chunk_mut::<2>() {
                *first = [shape, 0];
            }
            let _ = decode(&bytes);
        }
    }
}
