"""What the engine understands of Runpod's GraphQL: types, fields and their arguments, in its own words."""

SCHEMA = """
scalar JSON

type Query {
  myself: User!
  podTemplate(id: String!): PodTemplate!
  flashApp(flashAppId: String!): FlashApp!
  flashAppByName(flashAppName: String!): FlashApp!
  flashEnvironment(flashEnvironmentId: String!): FlashEnvironment!
  flashEnvironmentByName(input: FlashEnvironmentByNameInput!): FlashEnvironment!
  flashBuild(flashBuildId: String!): FlashBuild!
}

type Mutation {
  saveEndpoint(input: EndpointInput!): Endpoint!
  deleteEndpoint(id: String!): JSON
  saveTemplate(input: SaveTemplateInput): PodTemplate!
  createFlashApp(input: CreateFlashAppInput!): FlashApp!
  deleteFlashApp(flashAppId: String!): JSON
  createFlashEnvironment(input: CreateFlashEnvironmentInput!): FlashEnvironment!
  updateFlashEnvironment(input: UpdateFlashEnvironmentInput!): FlashEnvironment!
  deleteFlashEnvironment(flashEnvironmentId: String!): JSON
  addEndpointToFlashEnvironment(input: AddEndpointToEnvironmentInput!): Endpoint!
  addNetworkVolumeToFlashEnvironment(input: AddNetworkVolumeToEnvironmentInput!): NetworkVolume!
  prepareFlashArtifactUpload(input: PrepareFlashArtifactUploadInput!): FlashArtifactUpload!
  finalizeFlashArtifactUpload(input: FinalizeFlashArtifactUploadInput!): FlashBuild!
  deployBuildToEnvironment(input: DeployBuildToEnvironmentInput!): FlashEnvironment!
  updateFlashBuildManifest(input: UpdateFlashBuildManifestInput!): FlashBuild!
}

type User {
  id: String!
  endpoints: [Endpoint!]!
  flashApps: [FlashApp!]!
}

input EndpointInput {
  id: String
  name: String
  type: String
  gpuIds: String
  gpuCount: Int
  allowedCudaVersions: String
  minCudaVersion: String
  instanceIds: [String!]
  locations: String
  workersMin: Int
  workersMax: Int
  workersStandby: Int
  workersPFBTarget: Int
  idleTimeout: Int
  executionTimeoutMs: Int
  scalerType: String
  scalerValue: Int
  networkVolumeId: String
  networkVolumeIds: JSON
  template: PodTemplateInput
  templateId: String
  flashBootType: String
  flashEnvironmentId: String
  activeBuildid: String
  aiKey: String
  computeType: String
  createdAt: String
  hubRelease: JSON
  repo: JSON
  userId: String
}

input PodTemplateInput {
  id: String
  name: String
  imageName: String
  env: [EnvironmentVariableInput!]
  advancedStart: Boolean
  config: JSON
  containerDiskInGb: Int
  containerRegistryAuthId: String
  dockerArgs: String
  ports: String
  readme: String
  startScript: String
  volumeInGb: Int
}

input SaveTemplateInput {
  id: String!
  name: String
  imageName: String!
  env: [EnvironmentVariableInput!]!
  advancedStart: Boolean
  config: JSON
  containerDiskInGb: Int
  containerRegistryAuthId: String
  dockerArgs: String
  ports: String
  readme: String
  startScript: String
  volumeInGb: Int
}

input EnvironmentVariableInput {
  key: String!
  value: String!
}

type Endpoint {
  id: String!
  name: String!
  type: String!
  gpuIds: String!
  gpuCount: Int!
  allowedCudaVersions: String!
  minCudaVersion: String
  instanceIds: [String!]!
  locations: String!
  workersMin: Int!
  workersMax: Int!
  workersStandby: Int!
  workersPFBTarget: Int!
  idleTimeout: Int!
  executionTimeoutMs: Int!
  scalerType: String!
  scalerValue: Int!
  networkVolumeId: String
  networkVolumeIds: [EndpointVolume!]!
  networkVolume: NetworkVolume
  template: PodTemplate!
  templateId: String!
  env: [EnvironmentVariable!]!
  flashBootType: String
  flashEnvironmentId: String
  activeBuildid: String
  aiKey: String
  computeType: String
  createdAt: String
  idePodId: String
  userId: String!
  version: Int!
}

type NetworkVolume {
  id: String!
  name: String
  dataCenterId: String
  flashEnvironmentId: String
}

type EndpointVolume {
  networkVolumeId: String!
  dataCenterId: String
}

type PodTemplate {
  id: String!
  name: String
  imageName: String!
  env: [EnvironmentVariable!]!
  containerDiskInGb: Int!
  dockerArgs: String!
  readme: String
}

type EnvironmentVariable {
  key: String!
  value: String!
}

type FlashApp {
  id: String!
  name: String!
  createdAt: String!
  flashEnvironments: [FlashEnvironment!]!
  flashBuilds: [FlashBuild!]!
}

type FlashEnvironment {
  id: String!
  flashAppId: String!
  name: String!
  state: String!
  createdAt: String!
  activeBuildId: String
  activeArtifact: FlashArtifact
  endpoints: [Endpoint!]!
  networkVolumes: [NetworkVolume!]!
}

type FlashBuild {
  id: String!
  flashAppId: String!
  objectKey: String!
  createdAt: String!
  manifest: JSON!
}

type FlashArtifact {
  objectKey: String!
  downloadUrl: String!
  expiresAt: String!
}

type FlashArtifactUpload {
  uploadUrl: String!
  objectKey: String!
  expiresAt: String!
}

input FlashEnvironmentByNameInput {
  flashAppId: String!
  name: String!
}

input CreateFlashAppInput {
  name: String!
}

input CreateFlashEnvironmentInput {
  flashAppId: String!
  name: String!
}

input UpdateFlashEnvironmentInput {
  flashEnvironmentId: String!
  status: String!
}

input AddEndpointToEnvironmentInput {
  flashEnvironmentId: String!
  endpointId: String!
}

input AddNetworkVolumeToEnvironmentInput {
  flashEnvironmentId: String!
  networkVolumeId: String!
}

input PrepareFlashArtifactUploadInput {
  flashAppId: String!
  tarballSize: Int!
}

input FinalizeFlashArtifactUploadInput {
  flashAppId: String!
  objectKey: String!
  manifest: JSON!
}

input DeployBuildToEnvironmentInput {
  flashEnvironmentId: String!
  flashBuildId: String!
}

input UpdateFlashBuildManifestInput {
  flashBuildId: String!
  manifest: JSON!
}
"""
