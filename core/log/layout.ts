/**
 * Where things are in a data folder.
 *
 *     DIR/meta.json   lock   journal/{a,b}   buckets/00000/{heads.hidx, segments}
 *     segments/0000000000/{data.evts, index files}
 *
 * @module
 */

export function bucketFolder(dir: string, bucket: number): string {
  return `${dir}/buckets/${String(bucket).padStart(5, "0")}`;
}

/** A folder and those above it, up to the data folder: whose names are new when its own is. */
export function foldersUpTo(dir: string, folder: string): string[] {
  const folders: string[] = [];
  for (let up = folder; up.length >= dir.length; up = up.slice(0, up.lastIndexOf("/"))) folders.push(up);
  return folders;
}

export function segmentsFolder(dir: string, bucket: number): string {
  return `${bucketFolder(dir, bucket)}/segments`;
}

export function segmentFolder(dir: string, bucket: number, segment: number): string {
  return `${segmentsFolder(dir, bucket)}/${String(segment).padStart(10, "0")}`;
}

export function segmentPath(dir: string, bucket: number, segment: number): string {
  return `${segmentFolder(dir, bucket, segment)}/data.evts`;
}
