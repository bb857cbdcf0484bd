{
  description = "Incremental backups of btrfs subvolumes and of directories";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" "armv7l-linux" "riscv64-linux" ];
      forAll = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      day = self.lastModifiedDate or "19700101000000";
      date = "${builtins.substring 0 4 day}-${builtins.substring 4 2 day}-${builtins.substring 6 2 day}";
      commit = builtins.substring 0 12 (self.rev or self.dirtyRev or "unknown");
      version = "1.0.0-dev";
    in
    {
      packages = forAll (pkgs: rec {
        default = btrfs-backup;
        btrfs-backup = pkgs.buildGoModule {
          pname = "btrfs-backup";
          inherit version;
          src = self;
          vendorHash = "sha256-QDqc6eC9CHkza4+G1eDUcfC1Nne3bBvCCKku+CZ31O8="; # of `go mod vendor`, see scripts/internal/release
          subPackages = [ "cmd/btrfs-backup" ];
          env.CGO_ENABLED = "0";
          ldflags = [ "-s" "-w" "-X 'main.version=${version} (${commit}, ${date})'" ];
          doCheck = false; # the tests mount filesystems
          postPatch = "patchShebangs scripts";
          postInstall = ''
            scripts/stage $out/bin/btrfs-backup / $out
          '';
          meta = {
            description = "Incremental backups of btrfs subvolumes and of directories";
            homepage = "https://github.com/btrfs-backup/btrfs-backup";
            license = pkgs.lib.licenses.mit;
            platforms = systems;
            mainProgram = "btrfs-backup";
          };
        };
      });
    };
}
