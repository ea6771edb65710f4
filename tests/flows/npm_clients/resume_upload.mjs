// Uploads a file with tus-js-client as its users do, or goes on with an upload that another process has begun.
//
// Reads {"endpoint", "key", "file", "storage", "metadata", "stopAt"} and writes {"resumedAt", "offset", "document"} as
// JSON. With "stopAt" the process ends in the middle of a request, once that many bytes have been sent.
import { createReadStream, readFileSync } from "node:fs";
import { FileUrlStorage, Upload } from "tus-js-client";

const { endpoint, key, file, storage, metadata, stopAt } = JSON.parse(readFileSync(0, "utf8"));
const told = { resumedAt: null, offset: null, document: null };

const upload = new Upload(createReadStream(file), {
  endpoint,
  metadata,
  chunkSize: 8 * 1024 * 1024,
  headers: { Authorization: `Bearer ${key}` },
  urlStorage: new FileUrlStorage(storage),
  retryDelays: [0, 200, 1000],
  onAfterResponse: (request, response) => {
    if (request.getMethod() === "HEAD") told.resumedAt = Number(response.getHeader("Upload-Offset"));
    told.offset = Number(response.getHeader("Upload-Offset"));
    told.document = response.getHeader("Quarry-Document-Id") ?? told.document;
  },
  onProgress: (sent) => {
    if (stopAt !== null && sent >= stopAt) process.exit(0);
  },
  onError: (error) => {
    process.stderr.write(`${error}\n`);
    process.exit(1);
  },
  onSuccess: () => process.stdout.write(JSON.stringify(told)),
});
const [previous] = await upload.findPreviousUploads();
if (previous) upload.resumeFromPreviousUpload(previous);
upload.start();
