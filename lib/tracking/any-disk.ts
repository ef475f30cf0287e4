/** As a disk's identity for the addon: whichever the file names. */
export const ANY_DISK = "00000000-0000-0000-0000-000000000000";
