/** Every text of the page, by view. Texts of the server, such as error messages, are not here. */
export const texts = {
  product: "Ingot",
  skip: "Skip to the content",
  navigation: "Views",
  views: {
    paste: "Paste and go",
    jobs: "Jobs",
    library: "Library",
    system: "System",
    uploads: "Uploads",
  },
  theme: {
    system: "Theme: as the system",
    light: "Theme: light",
    dark: "Theme: dark",
  },
  states: {
    loading: "Loading",
    viewFailed: "This view could not be loaded",
    viewFailedHint: "The server may have been updated. Load the page again.",
    reload: "Load again",
    retry: "Try again",
  },
  notFound: {
    title: "There is nothing at this address",
    hint: "It may be an old link. Everything Ingot has is behind the views on the left.",
    back: "Back to the start",
  },
  soon: {
    title: "Not here yet",
    hint: "This view is not part of this version.",
  },
} as const;
