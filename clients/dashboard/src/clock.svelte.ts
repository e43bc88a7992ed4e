/** The present time, for ages and waits that are shown. It moves once a second. */
class Clock {
  now = $state.raw(new Date());

  constructor() {
    setInterval(() => {
      if (!document.hidden) this.now = new Date();
    }, 1000);
  }
}

export const clock = new Clock();
