import * as schema from "../verification-schemas.js";
import { vmStatus } from "../schemas.js";
import { nothing, route } from "./route.js";

const { verificationStatus } = schema;

export const VERIFICATION_ROUTES = {
  verificationStatus: route(
    "GET",
    "/vms/:vm/verification",
    nothing,
    verificationStatus,
    "What is known of its replica's files",
  ),
  verificationStart: route(
    "POST",
    "/vms/:vm/verification",
    schema.verificationRequest,
    verificationStatus,
    "Read its replica again and hold it against its checksums",
  ),
  verificationPause: route(
    "POST",
    "/vms/:vm/verification/pause",
    nothing,
    verificationStatus,
    "Pause the verification",
  ),
  verificationResume: route(
    "POST",
    "/vms/:vm/verification/resume",
    nothing,
    verificationStatus,
    "Go on with the verification",
  ),
  verificationStop: route(
    "DELETE",
    "/vms/:vm/verification",
    nothing,
    verificationStatus,
    "Stop the verification",
  ),
  comparisonStart: route(
    "POST",
    "/vms/:vm/comparison",
    schema.comparisonRequest,
    vmStatus,
    "Compare its disks with the replica by block hashes, the guest running",
  ),
  comparisonStop: route("DELETE", "/vms/:vm/comparison", nothing, vmStatus, "Stop the comparison"),
} as const;
