//! Does a crash at any operation leave a sound prefix with all that was synced?
