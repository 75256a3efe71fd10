//! Threads that wait for each other do not burn the cores that others compute on.
//!
//! libtorch's threads are libgomp's. Those that wait for the next operation spin, and where another program wants their core, it
//! and they take turns at doing nothing: two threads are then ten times slower than one. libgomp reads how to wait from the
//! environment when it is loaded, which is before `main`; so the variable is set, and the program started again in its own place,
//! before any library does anything. That costs a few milliseconds. Whoever chose how to wait is left alone.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // listed in ARCHITECTURE.md
mod start {
    use std::ffi::{CStr, c_char, c_int};
    use std::ptr;

    /// Says how threads wait, to libgomp or to another OpenMP library in its place; any of them is a choice.
    const CHOICES: [&[u8]; 3] = [b"OMP_WAIT_POLICY=", b"GOMP_SPINCOUNT=", b"KMP_BLOCKTIME="];
    /// A tenth of libgomp's own: long enough for the gap between two operations, so that an idle machine loses little, and short
    /// enough that two threads on busy cores are no slower than one.
    const BOUNDED: &CStr = c"GOMP_SPINCOUNT=30000";
    /// A larger environment is left as it is.
    const MOST_VARIABLES: usize = 4096;
    /// What the kernel says of the program's interpreter: its address, 0 where the dynamic loader was started by hand.
    const AT_BASE: usize = 7;

    unsafe extern "C" {
        fn readlink(path: *const c_char, buffer: *mut c_char, size: usize) -> isize;
        fn execve(path: *const c_char, arguments: *const *const c_char, environment: *const *const c_char) -> c_int;
    }

    /// The loader calls what stands in this section before the initialisers of all libraries.
    #[used]
    #[unsafe(link_section = ".preinit_array")]
    static AT_START: unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) = at_start;

    /// Starts the program again with bounded waiting, unless the environment says how to wait. If that fails, it goes on as it is.
    ///
    /// No library is ready yet: only system calls, and no memory but the stack.
    ///
    /// # Safety
    /// `arguments` and `environment` are what the kernel passed: arrays of C strings that end in null, the second followed by
    /// the auxiliary vector, pairs of words of which the last has the key 0.
    unsafe extern "C" fn at_start(_count: c_int, arguments: *const *const c_char, environment: *const *const c_char) {
        let mut variables = [ptr::null(); MOST_VARIABLES + 2]; // ours, theirs, null
        variables[0] = BOUNDED.as_ptr();
        let mut path = [0; 4096];
        // SAFETY: see above; every array is read up to its end, and written within its bounds.
        unsafe {
            let mut count = 0;
            while !(*environment.add(count)).is_null() {
                let variable = *environment.add(count);
                if count == MOST_VARIABLES || CHOICES.iter().any(|choice| starts_with(variable, choice)) {
                    return;
                }
                variables[count + 1] = variable;
                count += 1;
            }
            let mut entry = environment.add(count + 1).cast::<[usize; 2]>();
            while (*entry)[0] != AT_BASE {
                if (*entry)[0] == 0 {
                    return;
                }
                entry = entry.add(1);
            }
            let length = readlink(c"/proc/self/exe".as_ptr(), path.as_mut_ptr(), path.len() - 1);
            if (*entry)[1] == 0 || length <= 0 {
                return;
            }
            execve(path.as_ptr(), arguments, variables.as_ptr());
        }
    }

    /// Whether a C string begins so.
    ///
    /// # Safety
    /// `text` is a C string.
    unsafe fn starts_with(text: *const c_char, prefix: &[u8]) -> bool {
        // SAFETY: a character is read only where all before it are those of the prefix, none of which is the closing 0.
        prefix.iter().enumerate().all(|(place, byte)| unsafe { *text.add(place).cast::<u8>() } == *byte)
    }
}
