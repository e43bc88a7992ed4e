/** Whether the command palette is open. */
class PaletteState {
  open = $state(false);
}

export const palette = new PaletteState();
