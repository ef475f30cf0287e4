#!/usr/bin/env node
// CommonJS (see package.json beside it), because it must run before anything
// uses libuv's thread pool: blocking calls of the data plane run there, and with
// Node's four threads a few slow disks would hold up every file operation.
process.env.UV_THREADPOOL_SIZE ??= "16";
import("../dist/daemon/main.js");
