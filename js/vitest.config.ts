import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";

/** A Chromium named in the environment, else one on PATH, else (undefined) Playwright's own. */
function chromium(): string | undefined {
  const named = process.env.CHROMIUM_PATH ?? process.env.CHROMIUM;
  if (named) return named;
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const candidate = join(folder, "chromium");
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // not here
    }
  }
  return undefined;
}

export default defineConfig({
  test: {
    projects: [
      { test: { name: "node", environment: "node", include: ["test/*.test.ts"], testTimeout: 60_000 } },
      {
        optimizeDeps: {
          include: ["axe-core", "preact/hooks", "preact/jsx-dev-runtime", "preact/jsx-runtime"],
        },
        // The built bundles lie beside, in the Python package.
        server: { fs: { allow: [".."] } },
        test: {
          name: "browser",
          // Machines that share their cores are slow; nothing here waits for time to pass.
          testTimeout: 60_000,
          include: ["test/browser/*.test.ts"],
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            viewport: { width: 1280, height: 800 },
            provider: playwright({
              launchOptions: {
                executablePath: chromium(),
                args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
              },
            }),
            instances: [{ browser: "chromium" }],
          },
        },
      },
    ],
  },
});
