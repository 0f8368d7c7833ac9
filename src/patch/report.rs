//! Which of the redefined functions are in force in this process, and for whom.
//!
//! What is linked into the same object as this crate is bound to ours when it is linked. Every other loaded
//! object has a table of addresses, filled in by the dynamic linker, and that is what is looked at.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;

use super::SYMBOLS;

/// What [`report`](super::report) returns. It is printed as a table.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each function that is redefined.
    pub symbols: Vec<Symbol>,
}

/// One function.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Symbol {
    /// Its name.
    pub name: &'static str,
    /// Whether the dynamic linker finds ours first, so that objects loaded from now on call it.
    pub exported: bool,
    /// Whether there is the C library's own behind it, to be called where nothing is to wait. In a statically
    /// linked program there is not: the bare system call takes its place, and name resolution fails.
    pub has_original: bool,
    /// The loaded objects that call it through the dynamic linker, and what they get.
    pub objects: Vec<Object>,
}

/// A loaded object that calls a function.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Object {
    /// Its file; the program itself has an empty name at times.
    pub path: String,
    /// Whether its calls reach ours.
    pub live: bool,
    /// Where they go, if somewhere else and if that has a name.
    pub bound_to: Option<String>,
}

impl Symbol {
    /// Whether everybody who calls it reaches ours.
    pub fn is_live(&self) -> bool {
        self.exported && self.objects.iter().all(|object| object.live)
    }
}

impl Report {
    /// Whether every function is in force for every loaded object.
    pub fn is_complete(&self) -> bool {
        self.symbols.iter().all(Symbol::is_live)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for symbol in &self.symbols {
            let state = match (symbol.exported, symbol.is_live()) {
                (true, true) => "live",
                (true, false) => "bypassed by some",
                (false, _) => "not exported: only code linked in statically reaches it",
            };
            writeln!(f, "{:<18} {state}", symbol.name)?;
            for object in symbol.objects.iter().filter(|object| !object.live) {
                let target = object.bound_to.as_deref().unwrap_or("an unknown place");
                writeln!(f, "{:<18}   {} calls {target}", "", object.path)?;
            }
        }
        Ok(())
    }
}

/// What was found in one object's table: which of the functions, and the address.
struct Use {
    symbol: usize,
    path: String,
    address: usize,
    /// The object itself: an address inside of it is a stub that has not been bound yet.
    object: std::ops::Range<usize>,
}

pub(super) fn report() -> Report {
    let mut uses: Vec<Use> = Vec::new();
    let data: *mut Vec<Use> = &mut uses;
    // SAFETY: `look_at` has the right signature, and the vector outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look_at), data.cast()) };
    let own_object = file_of(SYMBOLS[0].2.0 as usize);
    let mut symbols: Vec<Symbol> = SYMBOLS
        .iter()
        .map(|(name, _, address)| {
            let c_name = CString::new(*name).unwrap_or_default();
            // SAFETY: C strings.
            let (first, next) = unsafe {
                (
                    libc::dlsym(libc::RTLD_DEFAULT, c_name.as_ptr()),
                    libc::dlsym(libc::RTLD_NEXT, c_name.as_ptr()),
                )
            };
            let exported = std::ptr::eq(first, address.0.cast());
            Symbol { name, exported, has_original: !next.is_null(), objects: Vec::new() }
        })
        .collect();
    for found in uses {
        let ours = SYMBOLS[found.symbol].2.0 as usize;
        let unbound = found.object.contains(&found.address) && found.address != ours;
        let symbol = &mut symbols[found.symbol];
        let live = found.address == ours || (unbound && symbol.exported);
        let bound_to = if live { None } else { file_of(found.address) };
        // The C library's way to its own function is its own affair.
        if Some(&found.path) != own_object.as_ref() || !live {
            symbol.objects.push(Object { path: found.path, live, bound_to });
        }
    }
    Report { symbols }
}

fn file_of(address: usize) -> Option<String> {
    // SAFETY: all zeros is valid for it.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: dladdr only compares the address.
    if unsafe { libc::dladdr(address as *const c_void, &mut info) } == 0 || info.dli_fname.is_null()
    {
        return None;
    }
    // SAFETY: a C string, by dladdr.
    Some(unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned())
}

#[repr(C)]
struct Dyn {
    tag: i64,
    value: u64,
}

#[repr(C)]
struct Rela {
    offset: u64,
    info: u64,
    addend: i64,
}

#[repr(C)]
struct Sym {
    name: u32,
    info: u8,
    other: u8,
    shndx: u16,
    value: u64,
    size: u64,
}

// From <elf.h>; libc does not name them.
const DT_PLTRELSZ: i64 = 2;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_RELA: i64 = 7;
const DT_RELASZ: i64 = 8;
const DT_JMPREL: i64 = 23;
/// A slot of the table that holds a function's address.
#[cfg(target_arch = "x86_64")]
const SLOTS: [u32; 2] = [6, 7]; // GLOB_DAT, JUMP_SLOT
#[cfg(target_arch = "aarch64")]
const SLOTS: [u32; 2] = [1025, 1026];

unsafe extern "C" fn look_at(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    data: *mut c_void,
) -> c_int {
    // SAFETY: dl_iterate_phdr hands out loaded objects whose headers, dynamic sections and tables are
    // mapped and, but for slots that the dynamic linker may fill in meanwhile (whole words), constant;
    // `data` is the vector of `report`.
    unsafe {
        let (info, uses) = (&*info, &mut *data.cast::<Vec<Use>>());
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        let base = info.dlpi_addr as usize;
        let Some(dynamic) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) else {
            return 0;
        };
        let end = headers
            .iter()
            .filter(|header| header.p_type == libc::PT_LOAD)
            .map(|header| base + (header.p_vaddr + header.p_memsz) as usize)
            .max();
        let path = match CStr::from_ptr(info.dlpi_name).to_string_lossy() {
            name if name.is_empty() => file_of(dynamic.p_vaddr as usize + base).unwrap_or_default(),
            name => name.into_owned(),
        };
        if path.contains("linux-vdso") {
            return 0; // it calls nobody, and its section is not relocated
        }
        let mut entry = (base + dynamic.p_vaddr as usize) as *const Dyn;
        let mut value = [0_usize; 32];
        while (*entry).tag != 0 {
            if let Some(place) =
                usize::try_from((*entry).tag).ok().and_then(|tag| value.get_mut(tag))
            {
                *place = (*entry).value as usize;
            }
            entry = entry.add(1);
        }
        // The dynamic linker has relocated the addresses in place, where the section is writable.
        let at = |tag: i64| match value[tag as usize] {
            0 => 0,
            address if address < base => base + address,
            address => address,
        };
        let (symbols, strings) = (at(DT_SYMTAB) as *const Sym, at(DT_STRTAB) as *const i8);
        if symbols.is_null() || strings.is_null() {
            return 0;
        }
        let tables = [
            (at(DT_RELA), value[DT_RELASZ as usize]),
            (at(DT_JMPREL), value[DT_PLTRELSZ as usize]),
        ];
        for (table, size) in tables {
            for index in 0..size / size_of::<Rela>() {
                let relocation = &*(table as *const Rela).add(index);
                if table == 0 || !SLOTS.contains(&(relocation.info as u32)) {
                    continue;
                }
                let symbol = &*symbols.add((relocation.info >> 32) as usize);
                let name = CStr::from_ptr(strings.add(symbol.name as usize).cast());
                let is_it = |(ours, _, _): &(&str, _, _)| ours.as_bytes() == name.to_bytes();
                if let Some(symbol) = SYMBOLS.iter().position(is_it) {
                    let slot = (base + relocation.offset as usize) as *const usize;
                    let object = base..end.unwrap_or(base);
                    uses.push(Use { symbol, path: path.clone(), address: slot.read(), object });
                }
            }
        }
    }
    0
}
