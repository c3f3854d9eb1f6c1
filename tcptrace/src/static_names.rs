//! Names of hosts and users in a static program that glibc is linked into.

/// Has glibc look names up by itself: in files, and hosts by DNS. Otherwise it loads what /etc/nsswitch.conf names, shared
/// libraries made for the glibc of that machine, which is another one than ours: at best they are not found.
/// To be called before other threads exist.
pub fn look_up_without_plugins() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    {
        unsafe extern "C" {
            // nss.h
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                services: *const libc::c_char,
            ) -> libc::c_int;
        }
        for (database, services) in [(c"hosts", c"files dns"), (c"passwd", c"files"), (c"group", c"files")] {
            // SAFETY: it copies both strings, and nobody looks anything up yet.
            let failed = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
            if failed != 0 {
                log::debug!("glibc keeps to nsswitch.conf for {database:?}");
            }
        }
    }
}
