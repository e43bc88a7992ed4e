/** Where the player is. Chapters and the waveform show it and move it. */
export class Playback {
  /** Seconds from the beginning. Setting it seeks. */
  position = $state(0);
  /** Length in seconds; zero until the player knows it. */
  length = $state(0);
  paused = $state(true);

  /** Goes to a position and plays from there. */
  playFrom(seconds: number): void {
    this.position = seconds;
    this.paused = false;
  }
}
