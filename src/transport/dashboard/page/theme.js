// Runs before the first paint, so that a chosen theme does not flash.
try {
  const theme = localStorage.getItem("realtime-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's theme.
}
if (new URLSearchParams(location.search).has("embed")) document.documentElement.dataset.embed = "";
